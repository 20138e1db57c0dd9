"""The blueprints: blocks that ComfyUI lists in its node library, and of which templates are built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .block import Block
from .graph import Column, Look, Node, Output
from .parts import Made, Texts, encoded, made

CATEGORY = "Understudy"
SHARE = "share to redo"


class Guided(NamedTuple):
    """Conditionings; width and height where they follow from what guides."""

    texts: Texts
    size: tuple[Output, Output] | None = None


Guide = Callable[[Block, Column, Texts, Output], Guided]  # (block, column, texts, vae)


def adaptive_sampler(
    name: str = "Adaptive sampler", guide: Guide | None = None, caption: bool = False, **sampling: object
) -> Block:
    """Student, oracle, threshold, teacher, keep better, receipt; for students and teachers that share CLIP and VAE.

    caption: whether the oracle reads a text of its own. sampling: more of Student sampler's widgets. A block with other
    contents needs another name.
    """
    block = Block(
        name,
        category=CATEGORY,
        description="A fast student makes the images, an oracle scores them, and a slow teacher redoes only the worst.",
    )
    student, teacher, clip, vae, oracle = map(block.input, ("student", "teacher", "clip", "vae", "oracle"))
    prompt, seed, steps = block.input("prompt"), block.input("seed"), block.input("steps", label="steps")
    share = block.input("share", label=SHARE)

    texts, first, judge = block.column(300), block.column(300), block.column(320)
    second, last = block.column(320), block.column(440)
    both = encoded(texts, clip, prompt)
    guided = guide(block, texts, both, vae) if guide else Guided(both)
    width, height = guided.size or (block.input("width"), block.input("height"))
    count = block.input("count", label="per prompt")
    save = block.input("save", "preview only")
    latent = texts.add("EmptyLatentImage", width=width, height=height, batch_size=count)
    pictures = made(first, student, *guided.texts, latent["LATENT"], vae, seed=seed, steps=steps, **sampling)
    ends = {"oracle": oracle, "prompt": block.input("caption") if caption else prompt, "share": share, "save": save}
    redo_the_worst(block, (judge, second, last), pictures, teacher=teacher, **guided.texts._asdict(), vae=vae, **ends)
    block.group("Student", texts, first)
    block.group("Oracle and threshold", judge)
    block.group("Teacher", second)
    block.group("What is kept", last)
    return block


def redo_the_worst(
    block: Block,
    columns: Sequence[Column],
    pictures: Made,
    *,
    teacher: Output,
    positive: Output,
    negative: Output,
    vae: Output,
    oracle: Output,
    prompt: Output,
    share: Output,
    save: Output,
    **settings: object,
) -> Node:
    """Everything behind a student: oracle and threshold, teacher, and what is kept and told, in three columns.

    settings: the teacher's widgets. The block's outputs are images and receipt; Keep better image is returned.
    """
    judge, redo, last = columns
    images = pictures.images
    scores = judge.add("UnderstudyScoreImages", oracle=oracle, images=images, prompt=prompt)["scores"]
    threshold = judge.add("UnderstudyThreshold", scores=scores, fraction=share)["threshold"]
    redone = redo.add(
        "UnderstudyTeacher",
        images=images,
        scores=scores,
        threshold=threshold,
        model=teacher,
        positive=positive,
        negative=negative,
        vae=vae,
        latent=pictures.latent,
        **settings,
    )
    better = last.add(
        "UnderstudyKeepBetter",
        images_after=redone["images"],
        images_before=images,
        scores=scores,
        oracle=oracle,
        prompt=prompt,
    )
    told = last.add(
        "UnderstudyReceipt",
        Look(height=420),
        images=better["images"],
        images_before=images,
        scores=better["scores"],
        threshold=threshold,
        receipt=redone["receipt"],
        images_teacher=redone["images"],
        save=save,
    )
    block.output("images", told["images"])
    block.output("receipt", told["report"])
    return better


def redo_the_bad() -> Block:
    """Threshold, Split, a teacher of stock nodes, Merge."""
    block = Block(
        "Redo the bad images",
        category=CATEGORY,
        description="Sends the images with the worst scores through a teacher, or nodes of your own inside, and puts "
        "what comes of them back into their places.",
    )
    images, scores, teacher, clip, vae = map(block.input, ("images", "scores", "teacher", "clip", "vae"))
    prompt, share, seed = block.input("prompt"), block.input("share", label=SHARE), block.input("seed")
    steps, cfg, denoise = block.input("steps"), block.input("cfg"), block.input("denoise", 0.6)

    texts, route = block.column(300), block.column(300)
    own, back = block.column(300), block.column(300)
    both = encoded(texts, clip, prompt)
    threshold = route.add("UnderstudyThreshold", scores=scores, fraction=share)["threshold"]
    judged = {"images": images, "scores": scores, "threshold": threshold}
    rejected = route.add("UnderstudySplit", **judged, **both._asdict())
    latent = own.add("VAEEncode", pixels=rejected["rejected images"], vae=vae)
    sampled = own.add(
        "KSampler",
        model=teacher,
        positive=rejected["positive"],
        negative=rejected["negative"],
        latent_image=latent["LATENT"],
        seed=seed,
        steps=steps,
        cfg=cfg,
        denoise=denoise,
        sampler_name="dpmpp_2m",
        scheduler="sgm_uniform",
    )
    redone = own.add("VAEDecode", samples=sampled["LATENT"], vae=vae)
    merged = back.add("UnderstudyMerge", **judged, redone=redone["IMAGE"])
    block.group("Which are bad", route)
    block.group("Nodes of your own, here a teacher", own)
    block.output("images", merged["merged images"])
    block.output("threshold", threshold)
    block.output("receipt", merged["receipt"])
    return block


def best_of_n() -> Block:
    """A student whose images are tried again, the best of each kept."""
    block = Block(
        "Best of n",
        category=CATEGORY,
        description="Makes each image n times, each from a seed of its own, and keeps what the oracle likes best.",
    )
    student, clip, vae, oracle = map(block.input, ("student", "clip", "vae", "oracle"))
    prompt, seed, steps = block.input("prompt"), block.input("seed"), block.input("steps", label="steps")
    n = block.input("n")
    width, height = block.input("width"), block.input("height")
    count = block.input("count", label="per prompt")

    texts, tries = block.column(300), block.column(320)
    both = encoded(texts, clip, prompt)
    latent = texts.add("EmptyLatentImage", width=width, height=height, batch_size=count)
    best = tries.add(
        "UnderstudyBestOf",
        model=student,
        **both._asdict(),
        latent_image=latent["LATENT"],
        seed=seed,
        steps=steps,
        vae=vae,
        oracle=oracle,
        prompt=prompt,
        n=n,
    )
    for name in ("images", "latent", "scores", "tries"):
        block.output(name, best[name])
    return block


BLUEPRINTS = (adaptive_sampler, redo_the_bad, best_of_n)
