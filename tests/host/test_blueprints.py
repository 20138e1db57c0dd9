"""The blocks of the node library: offered, and the same as their nodes without a block."""

import json

import pytest
import torch
from understudy.templates import blocks
from understudy.templates.graph import Graph
from understudy.templates.prompts import prompt_of
from understudy.templates.saved import workflow

from .environment import PACK
from .graphs import THRESHOLD
from .graphs import Graph as Prompt
from .server import FOLDER
from .tensors import tensors

PROMPT, SEED, SHARE, COUNT = "a small purple star below a small yellow triangle on a black background", 3, 0.5, 4
SIZE, TEXTS = {"width": 64, "height": 64}, {"positive": PROMPT, "negative": ""}


def test_the_node_library_offers_the_pack_s_blocks(host):
    offered = {
        each["name"]: key
        for key, each in host.get("/global_subgraphs").items()
        if each["info"]["node_pack"] == f"custom_nodes.{FOLDER}"
    }
    assert offered.keys() == {path.stem for path in (PACK / "subgraphs").glob("*.json")} and len(offered) == 3
    for name, key in offered.items():
        given = json.loads(host.get(f"/global_subgraphs/{key}")["data"])
        (block,) = given["definitions"]["subgraphs"]
        (node,) = given["nodes"]
        assert node["type"] == block["id"] and block["name"] == name
        assert block["category"] == "Understudy" and block["description"].endswith(".")


def demo(part):
    """A graph with the demo's loaders, and a column for the block."""
    graph = Graph(part)
    column = graph.column()
    return graph, *(column.add("UnderstudyLoadDemo", part=each) for each in ("student", "teacher"))


def prompt_with(host, graph, output):
    """A graph as its prompt, in which the images of an output are kept as tensors."""
    graph.columns[0].add("PreviewImage", images=output)
    prompt = prompt_of(workflow(graph), host.object_info())
    (last,) = (node for node in prompt.values() if node["class_type"] == "PreviewImage")
    last["class_type"] = "TestSaveTensors"
    return prompt


class Plain(Prompt):
    """The same without blocks, written node by node."""

    def __init__(self):
        super().__init__()
        self.student = self.add("UnderstudyLoadDemo", part="student")
        self.teacher = self.add("UnderstudyLoadDemo", part="teacher")
        self.positive = self.add("CLIPTextEncode", clip=self.student[1], text=PROMPT)
        self.negative = self.add("CLIPTextEncode", clip=self.student[1], text="")
        self.texts = {"positive": self.positive[0], "negative": self.negative[0]}
        self.latent = self.add("EmptyLatentImage", **SIZE, batch_size=COUNT)
        self.sampling = {"model": self.student[0], **self.texts, "latent_image": self.latent[0], "seed": SEED}
        self.sampling |= {"preset": "auto", "steps": 4, "cfg": 1.0, "denoise": 1.0}

    def judged(self):
        """The student's images, their scores and a threshold."""
        self.sampled = self.add("UnderstudyStudentSampler", **self.sampling)
        images = self.add("VAEDecode", samples=self.sampled[0], vae=self.student[2])[0]
        scores = self.add("UnderstudyScoreImages", oracle=self.student[3], images=images, prompt=PROMPT)[0]
        threshold = self.add("UnderstudyThreshold", **THRESHOLD | {"mode": "worst_fraction", "fraction": SHARE})[0]
        return {"images": images, "scores": scores, "threshold": threshold}


def adaptive_sampler():
    graph, student, teacher = demo("Adaptive sampler")
    shared = {"clip": student["clip"], "vae": student["vae"], "oracle": student["oracle"]}
    asked = {"prompt": PROMPT, "seed": SEED, "share": SHARE, "count": COUNT, **SIZE}
    made = graph.column().add(
        blocks.adaptive_sampler(), student=student["model"], teacher=teacher["model"], **shared, **asked
    )
    plain = Plain()
    judged = plain.judged()
    settings = {"start_from": "images", "strategy": "refine", "settings": "by the table", "rollback_mode": "noise"}
    settings |= {"strength": "fixed", "upscale_by": 1.0, "images_at_once": 0, "seed_from": "latent"}
    unused = {"rollback": 0.65, "rollback_worst": 0.9, "steps": 12, "cfg": 7.0, "seed": 0}
    unused |= {"sampler_name": "euler", "scheduler": "normal"}
    redone = plain.add(
        "UnderstudyTeacher",
        **judged,
        model=plain.teacher[0],
        **plain.texts,
        vae=plain.student[2],
        latent=plain.sampled[0],
        **settings,
        **unused,
    )
    better = plain.add(
        "UnderstudyKeepBetter",
        images_after=redone[0],
        images_before=judged["images"],
        scores=judged["scores"],
        oracle=plain.student[3],
        prompt=PROMPT,
    )
    return graph, made["images"], plain, better[0]


def redo_the_bad():
    graph, student, teacher = demo("Redo the bad images")
    shared = {"clip": student["clip"], "vae": student["vae"]}
    column = graph.column(400)
    text = {name: column.add("CLIPTextEncode", clip=student["clip"], text=text) for name, text in TEXTS.items()}
    latent = column.add("EmptyLatentImage", **SIZE, batch_size=COUNT)
    sampled = column.add(
        "UnderstudyStudentSampler",
        model=student["model"],
        latent_image=latent["LATENT"],
        seed=SEED,
        **{name: node["CONDITIONING"] for name, node in text.items()},
    )
    images = column.add("VAEDecode", samples=sampled["latent"], vae=student["vae"])["IMAGE"]
    scores = column.add("UnderstudyScoreImages", oracle=student["oracle"], images=images, prompt=PROMPT)["scores"]
    asked = {"prompt": PROMPT, "seed": SEED, "share": SHARE, "steps": 6, "cfg": 3.0, "denoise": 0.7}
    made = graph.column().add(
        blocks.redo_the_bad(), images=images, scores=scores, teacher=teacher["model"], **shared, **asked
    )
    plain = Plain()
    judged = plain.judged()
    sent = plain.add("UnderstudySplit", **judged)
    latent = plain.add("VAEEncode", pixels=sent[0], vae=plain.student[2])
    sampled = plain.add(
        "KSampler",
        model=plain.teacher[0],
        **plain.texts,
        latent_image=latent[0],
        seed=SEED,
        steps=6,
        cfg=3.0,
        denoise=0.7,
        sampler_name="dpmpp_2m",
        scheduler="sgm_uniform",
    )
    redone = plain.add("VAEDecode", samples=sampled[0], vae=plain.student[2])
    return graph, made["images"], plain, plain.add("UnderstudyMerge", **judged, redone=redone[0])[0]


def best_of_n():
    graph, student, _ = demo("Best of n")
    shared = {"clip": student["clip"], "vae": student["vae"], "oracle": student["oracle"]}
    asked = {"prompt": PROMPT, "seed": SEED, "n": 3, "count": COUNT, **SIZE}
    made = graph.column().add(blocks.best_of_n(), student=student["model"], **shared, **asked)
    plain = Plain()
    best = plain.add(
        "UnderstudyBestOf", **plain.sampling, vae=plain.student[2], oracle=plain.student[3], prompt=PROMPT, n=3
    )
    return graph, made["images"], plain, best[0]


@pytest.mark.parametrize("case", [adaptive_sampler, redo_the_bad, best_of_n])
def test_a_block_makes_what_its_nodes_make(host, case):
    graph, output, plain, images = case()
    with_block, own = prompt_with(host, graph, output), plain.add("TestSaveTensors", images=images)
    (kept,) = (key for key, node in with_block.items() if node["class_type"] == "TestSaveTensors")
    by_block = tensors(host, host.run(with_block), kept)["images.0"]
    by_hand = tensors(host, host.run(plain), own)["images.0"]
    assert by_block.shape == (COUNT, 64, 64, 3) and torch.equal(by_block, by_hand)
    # Not the student's alone.
    alone = Plain()
    sampled = alone.add("UnderstudyStudentSampler", **alone.sampling)
    first = alone.add("VAEDecode", samples=sampled[0], vae=alone.student[2])
    kept = alone.add("TestSaveTensors", images=first[0])
    student = tensors(host, host.run(alone), kept)["images.0"]
    assert 0 < sum(not torch.equal(a, b) for a, b in zip(student, by_block, strict=True)) <= COUNT
