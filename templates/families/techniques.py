"""What one does with real models: editing, ControlNets, best of n, comparing oracles, calibrating, a detailer."""

from __future__ import annotations

from collections.abc import Sequence

from ...samplers.presets import STUDENTS, TEACHERS
from .. import model_files as published
from ..block import Block
from ..blocks import CATEGORY, Guided, adaptive_sampler, best_of_n
from ..cards import REDONE
from ..graph import Column, Graph, Look, Output
from ..layout import WHOLE, columns
from ..loading import Loaded, lora_on_checkpoint, lora_on_network, oracle, two_networks
from ..model_files import ModelFile, in_words
from ..notes import files as listed
from ..parts import Texts, encoded, made

SDXL = TEACHERS["sdxl"]
SEED, SIDE, COUNT, STEPS, SHARE = 7, 1024, 4, 4, 0.25
PROMPT = "a red fox in a yellow raincoat reads a newspaper on a park bench, photograph"
MORE = "a chess board seen from above, the white king has fallen\na red cube on a blue cube, studio photograph"
PICTURE = Look("Picture", height=318)
LIGHTNING = lora_on_checkpoint(published.SDXL, published.SDXL_LIGHTNING, title="Checkpoint")
SMALL_LIGHTNING = lora_on_checkpoint(published.SDXL, published.SDXL_LIGHTNING, collapsed=True, title="Checkpoint")
KLEIN = two_networks(published.KLEIN, published.KLEIN_BASE, published.KLEIN_TEXTS, "flux2", published.KLEIN_VAE)
QWEN = lora_on_network(
    published.QWEN, published.QWEN_LIGHTNING, published.QWEN_TEXTS, "qwen_image", published.QWEN_VAE, collapsed=True
)


def note(column: Column, text: str, host: str, files: Sequence[ModelFile], height: int = WHOLE) -> None:
    size = in_words(sum(each.bytes for each in files))
    needs = f"- ComfyUI {host} or later\n- {size} of files"
    column.note("Read me", "\n\n".join([text.strip(), needs, listed(files)]), height)


def edit() -> Graph:
    graph = Graph("Understudy 50 - Edit a picture")
    read, left, middle, right = columns(graph, 220, 220, 230, 310)
    picture = read.add("LoadImage", PICTURE, image="example.png")
    note(
        read,
        """
**FLUX.2 klein** edits a picture four times, **ImageReward** scores the edits for the *caption*, and **klein base** \
redoes the worst.

Choose a picture, type what is to be done (*prompt*) and what the result should show (*caption*): an oracle looks at \
the result alone, and reads no orders.
""",
        "0.11.0",
        [*KLEIN.files, published.IMAGE_REWARD],
        101,
    )
    judge, loaded = oracle(left), KLEIN.into(left)
    block = middle.add(
        adaptive_sampler("Adaptive editor", guide=reference, caption=True),
        **loaded._asdict(),
        oracle=judge,
        picture=picture["IMAGE"],
        prompt="make it snow",
        caption="a place in heavy snow, photograph",
        seed=SEED,
        steps=STEPS,
        share=SHARE,
        count=COUNT,
        save="all",
    )
    right.add("PreviewImage", Look("Receipt", height=WHOLE), images=block["receipt"])
    return graph


def reference(block: Block, column: Column, texts: Texts, vae: Output) -> Guided:
    """The picture, in a size that the model is made for, as what both conditionings refer to."""
    picture = column.add(
        "ImageScaleToTotalPixels",
        image=block.input("picture"),
        upscale_method="lanczos",
        megapixels=1.0,
        resolution_steps=16,
    )["IMAGE"]
    size = column.add("GetImageSize", image=picture)
    latent = column.add("VAEEncode", pixels=picture, vae=vae)["LATENT"]
    first, second = (column.add("ReferenceLatent", conditioning=each, latent=latent)["CONDITIONING"] for each in texts)
    return Guided(Texts(first, second), (size["width"], size["height"]))


def control() -> Graph:
    graph = Graph("Understudy 51 - ControlNet")
    files = [*QWEN.files, published.QWEN_CONTROLNET, published.IMAGE_REWARD]
    read, left, middle, right = columns(graph, 220, 220, 230, 310)
    picture = read.add("LoadImage", PICTURE, image="example.png")
    note(
        read,
        """
**Qwen-Image with its Lightning LoRA** paints an outline in four steps, **ImageReward** scores the images, and \
**Qwen-Image** redoes the worst. Student and teacher are under the same ControlNet, so that what is redone still fits.

Choose a picture; *Canny* makes its outline. For depth or poses put another preprocessor in its place.
""",
        "0.8.0",
        files,
        101,
    )
    judge = oracle(left)
    outline = left.add("Canny", Look(collapsed=True), image=picture["IMAGE"])["IMAGE"]
    look = Look("ControlNet", models=[published.QWEN_CONTROLNET], collapsed=True)
    net = left.add("ControlNetLoader", look, control_net_name=published.QWEN_CONTROLNET.name)
    loaded = QWEN.into(left)
    block = middle.add(
        adaptive_sampler("Adaptive ControlNet", guide=under_control),
        **loaded._asdict(),
        oracle=judge,
        control_net=net["CONTROL_NET"],
        outline=outline,
        prompt=PROMPT,
        seed=SEED,
        steps=STEPS,
        share=SHARE,
        width=SIDE,
        height=SIDE,
        count=COUNT,
        save="all",
    )
    right.add("PreviewImage", Look("Receipt", height=WHOLE), images=block["receipt"])
    return graph


def under_control(block: Block, column: Column, texts: Texts, vae: Output) -> Guided:
    """Both conditionings under a ControlNet."""
    net = column.add(
        "ControlNetApplyAdvanced",
        **texts._asdict(),
        control_net=block.input("control_net"),
        image=block.input("outline"),
        vae=vae,
    )
    return Guided(Texts(net["positive"], net["negative"]))


def several_seeds() -> Graph:
    graph = Graph("Understudy 52 - Best of n")
    read, left, middle, right = columns(graph, 220, 220, 230, 310)
    note(
        read,
        """
No teacher: **SDXL Lightning** tries each image from up to *n* seeds, and the one that **ImageReward** scores highest \
stays. With n = 4 an image costs 16 evaluations of the network instead of 4, and four looks of the oracle.

The node in the block says which seed each image came from. Connect a threshold of a calibration to its *stop_at*, \
and an image that passes is not tried again.
""",
        "0.8.0",
        [*LIGHTNING.files, published.IMAGE_REWARD],
    )
    judge, loaded = oracle(left), LIGHTNING.into(left)
    block = middle.add(
        best_of_n(),
        **_student(loaded),
        oracle=judge,
        prompt=PROMPT,
        seed=SEED,
        steps=STEPS,
        n=4,
        width=SIDE,
        height=SIDE,
        count=COUNT,
    )
    best = Look("The best of each", height=WHOLE)
    right.add("SaveImage", best, images=block["images"], filename_prefix="understudy/best")
    return graph


def _student(loaded: Loaded) -> dict[str, Output]:
    return {"student": loaded.student, "clip": loaded.clip, "vae": loaded.vae}


def student_images() -> Block:
    """A student alone: what oracles are compared and calibrated on."""
    block = Block("Student's images", category=CATEGORY, description="What a few-step student makes of a prompt.")
    student, clip, vae = map(block.input, ("student", "clip", "vae"))
    prompt, seed, steps = block.input("prompt"), block.input("seed"), block.input("steps")
    count = block.input("count", label="per prompt")
    texts, sampling = block.column(300), block.column(320)
    both = encoded(texts, clip, prompt)
    latent = texts.add("EmptyLatentImage", width=SIDE, height=SIDE, batch_size=count)["LATENT"]
    pictures = made(sampling, student, *both, latent, vae, seed=seed, steps=steps)
    block.output("images", pictures.images)
    block.output("latent", pictures.latent)
    return block


def _images(column: Column, loaded: Loaded, prompt: Output, count: int, **look: str) -> Output:
    """A student's images in a graph."""
    return column.add(
        student_images(),
        Look(**look),
        **_student(loaded),
        prompt=prompt,
        seed=SEED,
        steps=STEPS,
        count=count,
    )["images"]


def rejected_by() -> Block:
    """What one oracle would send to a teacher."""
    block = Block(
        "What an oracle rejects",
        category=CATEGORY,
        description="The images that an oracle likes least.",
        first_id=201,
    )
    which, images, prompt = block.input("oracle"), block.input("images"), block.input("prompt")
    column, split = block.column(320), block.column(300)
    scores = column.add("UnderstudyScoreImages", oracle=which, images=images, prompt=prompt)
    worst = column.add("UnderstudyThresholdWorst", scores=scores["scores"], worst_n=block.input("worst_n"))
    routed = split.add("UnderstudySplit", images=images, scores=scores["scores"], threshold=worst["threshold"])
    block.output("rejected", routed["rejected images"])
    return block


def compare() -> Graph:
    graph = Graph("Understudy 53 - Compare oracles")
    read, left, middle, right = columns(graph, 215, 215, 215, 335)
    prompt = read.add("PrimitiveStringMultiline", Look("Prompt", height=110), value=PROMPT)["STRING"]
    note(
        read,
        """
Two oracles look at the same eight images of **SDXL Lightning**: which two would each send to the teacher? Where \
**ImageReward** and **HPSv2.1** agree, either will do; where they do not, look at the pictures and take the one that \
you agree with.

Scores of two oracles are on two scales and cannot be compared, but their orders can. *Combine oracles* makes one of \
both, once each is calibrated.
""",
        "0.8.0",
        [*LIGHTNING.files, published.IMAGE_REWARD, published.HPS],
        311,
    )
    judges = {
        "ImageReward": oracle(left, published.IMAGE_REWARD, "ImageReward"),
        "HPSv2.1": oracle(middle, published.HPS, "HPSv2.1"),
    }
    loaded = SMALL_LIGHTNING.into(left)
    images = _images(left, loaded, prompt, 8)
    for name, which in judges.items():
        told = middle.add(rejected_by(), Look(name), oracle=which, images=images, prompt=prompt, worst_n=2)
        right.add("PreviewImage", Look(f"{name} rejects", height=210), images=told["rejected"])
    return graph


def calibrate() -> Graph:
    graph = Graph("Understudy 54 - Calibrate")
    read, left, middle, right = columns(graph, 225, 210, 210, 335)
    name = "SDXL Lightning - ImageReward"
    prompts = read.add("UnderstudyPrompts", Look("Prompts, one a line", height=122), text=f"{PROMPT}\n{MORE}")
    note(
        read,
        """
A calibration is the student's own scores, a few hundred of them; its percentiles are what *redo the worst 30 %* can \
mean for a single image.

Type prompts as you use them, one in each line, and run it often: each run draws new seeds and counts each image \
once. From some 200 on the percentiles change little; the picture shows how sure they are.

Then set *Score threshold* in any graph with this student, steps and oracle to *percentile* and choose the calibration.
""",
        "0.8.0",
        [*LIGHTNING.files, published.IMAGE_REWARD],
        299,
    )
    judge, loaded = oracle(left), LIGHTNING.into(left)
    images = _images(middle, loaded, prompts["prompts"], COUNT, control="randomize")
    judged = {"oracle": judge, "images": images, "prompt": prompts["prompts"]}
    scores = right.add("UnderstudyScoreImages", Look("Scores", collapsed=True), **judged)["scores"]
    counted = right.add("UnderstudyCalibrate", scores=scores, name=name)["scores"]
    right.add("UnderstudyShowCalibration", Look(height=297), calibration=name, scores=counted)
    return graph


def detailer() -> Block:
    """Nodes of one's own, between Split and Merge."""
    block = Block(
        "Detailer",
        category=CATEGORY,
        description="Enlarges images and gives them new detail.",
        first_id=201,
    )
    images, model, clip, vae = map(block.input, ("images", "model", "clip", "vae"))
    prompt = block.input("prompt")
    denoise = block.input("denoise", STUDENTS["sdxl-lightning"].rollback)
    texts, work = block.column(300), block.column(300)
    both = encoded(texts, clip, prompt)
    enlarged = texts.add("ImageScaleBy", image=images, upscale_method="lanczos", scale_by=1.5)["IMAGE"]
    latent = work.add("VAEEncode", pixels=enlarged, vae=vae)["LATENT"]
    sampled = work.add(
        "KSampler",
        model=model,
        **both._asdict(),
        latent_image=latent,
        seed=SEED,
        steps=SDXL.steps,
        cfg=SDXL.cfg,
        sampler_name=SDXL.sampler,
        scheduler=SDXL.schedule,
        denoise=denoise,
    )["LATENT"]
    block.output("redone", work.add("VAEDecode", samples=sampled, vae=vae)["IMAGE"])
    return block


def detail() -> Graph:
    graph = Graph("Understudy 55 - Redo with a detailer")
    left, middle, own, right = columns(graph, 215, 215, 215, 335)
    judge, loaded = oracle(left), SMALL_LIGHTNING.into(left)
    prompt = left.add("PrimitiveStringMultiline", Look("Prompt", height=110), value=PROMPT)["STRING"]
    note(
        left,
        """
*Split* sends the worst image through nodes of your own, *Merge* puts what comes of it back; the others are not \
touched, and if all pass, these nodes do not run.

Here the block *Detailer* enlarges an image by half and gives it new detail with **SDXL**; Merge brings it back to its \
size. Put a face detailer, an inpainter or an upscaler in its place: it has to give one image for each.
""",
        "0.8.0",
        [*LIGHTNING.files, published.IMAGE_REWARD],
        149,
    )
    images = _images(middle, loaded, prompt, COUNT)
    middle.gap = 22  # the classic canvas writes the pack's name above each of the next two
    judged = {"oracle": judge, "images": images, "prompt": prompt}
    scores = middle.add("UnderstudyScoreImages", Look("Scores", height=110, collapsed=True), **judged)["scores"]
    threshold = middle.add("UnderstudyThresholdWorst", Look(height=72), scores=scores)["threshold"]
    routed = {"images": images, "scores": scores, "threshold": threshold}
    rejected = own.add("UnderstudySplit", **routed)["rejected images"]
    redone = own.add(
        detailer(),
        images=rejected,
        model=loaded.teacher,
        clip=loaded.clip,
        vae=loaded.vae,
        prompt=prompt,
    )["redone"]
    merged = right.add("UnderstudyMerge", Look(collapsed=True), **routed, redone=redone)
    right.gap = 22
    told = right.add(
        "UnderstudyReceipt",
        Look(collapsed=True),
        images=merged["merged images"],
        images_before=images,
        scores=scores,
        threshold=threshold,
        receipt=merged["receipt"],
    )
    right.gap = 8
    right.add("PreviewImage", Look("Receipt", height=360), images=told["report"])
    return graph


TEMPLATES = (edit, control, several_seeds, compare, calibrate, detail)

LIGHTNING_LINE = ("student", "SDXL Lightning, 4 steps")
CARDS = {
    "Understudy 50 - Edit a picture": (
        [
            ("student", "FLUX.2 klein, 4 steps"),
            ("oracle", "ImageReward, by a caption"),
            ("teacher", "klein base, 20 steps, cfg 5"),
        ],
        REDONE,
    ),
    "Understudy 51 - ControlNet": (
        [
            ("student", "Qwen-Image Lightning, 4 steps"),
            ("teacher", "Qwen-Image, 50 steps, cfg 4"),
            ("both", "under the same outline"),
        ],
        REDONE,
    ),
    "Understudy 52 - Best of n": (
        [LIGHTNING_LINE, ("tries", "4 seeds for each image"), ("oracle", "ImageReward takes the best")],
        ["oo+o", "+ooo", "ooo+", "o+oo"],
    ),
    "Understudy 53 - Compare oracles": (
        [LIGHTNING_LINE, ("above", "two that ImageReward rejects"), ("below", "two that HPSv2.1 rejects")],
        ["**o***o*", "o*****o*"],
    ),
    "Understudy 54 - Calibrate": (
        [LIGHTNING_LINE, ("oracle", "ImageReward"), ("counts", "its scores, for a percentile")],
        ["....*....", "...***...", "..o****..", "ooo******"],
    ),
    "Understudy 55 - Redo with a detailer": (
        [LIGHTNING_LINE, ("rejected", "enlarged, detailed by SDXL"), ("merged", "back into their places")],
        REDONE,
    ),
}
