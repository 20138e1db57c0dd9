"""The example workflows, as they are in the pack."""

import io
import json

import pytest
import torch
from PIL import Image
from understudy.oracles.likeness import ssim

from .environment import PACK
from .graphs import from_workflow
from .tensors import tensors

DEMO, ROUTED, EDIT, OUTLINES, CHECKPOINT = (
    "Demo - teacher redoes the worst images",
    "Demo - rejected images through your own nodes",
    "Demo - edit pictures, teacher redoes the worst edits",
    "Demo - outlines, teacher redoes the worst images",
    "LCM LoRA student - teacher redoes the worst images",
)


def workflow(host, name):
    saved = json.loads((PACK / "example_workflows" / f"{name}.json").read_text(encoding="utf-8"))
    return from_workflow(saved, host.object_info())


def only(prompt, class_type, **inputs):
    """The id of the one node of a class, with these widgets where several are of that class."""
    (found,) = (
        key
        for key, node in prompt.items()
        if node["class_type"] == class_type and inputs.items() <= node["inputs"].items()
    )
    return found


def results(host, run, prompt):
    """The report picture, and what each saved image says of itself."""
    output = run.outputs[only(prompt, "UnderstudyReceipt")]
    (report,) = output["images"]
    opened = [Image.open(io.BytesIO(host.image(entry))) for entry in output["saved"]]
    return Image.open(io.BytesIO(host.image(report))), [json.loads(image.text["understudy"]) for image in opened]


def use(prompt, class_type, **inputs):
    for node in prompt.values():
        if node["class_type"] == class_type:
            node["inputs"].update(inputs)


@pytest.mark.parametrize("name", [DEMO, ROUTED, EDIT, OUTLINES, CHECKPOINT])
def test_a_template_has_the_nodes_as_they_are(host, name):
    """Each widget its value, though an absent one at the end would take its default, and each socket its name."""
    about, prompt = host.object_info(), workflow(host, name)
    saved = json.loads((PACK / "example_workflows" / f"{name}.json").read_text(encoding="utf-8"))
    for node in saved["nodes"]:
        if not node["type"].startswith("Understudy"):
            continue
        info, given = about[node["type"]], prompt[str(node["id"])]["inputs"]
        kinds = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        open_sockets = {each["name"] for each in node["inputs"] if each["link"] is None and "widget" not in each}
        assert open_sockets <= info["input"].get("optional", {}).keys(), node["type"]
        named = given.keys() | open_sockets
        assert list(given) and named == kinds.keys(), (node["type"], kinds.keys() ^ named)
        assert [(each["name"], each["type"]) for each in node["outputs"]] == list(
            zip(info["output_name"], info["output"], strict=True)
        )
        for each in node["inputs"]:
            assert each["type"] in (kinds[each["name"]][0], "COMBO"), (node["type"], each["name"])


@pytest.mark.parametrize("name", [DEMO, EDIT, OUTLINES, CHECKPOINT])
def test_example_workflow_redoes_the_worst_quarter(host, name):
    prompt = workflow(host, name)
    # Eight pictures of 512 x 512 would take two cores many minutes.
    use(prompt, "EmptyLatentImage", width=64, height=64)
    report, images = results(host, host.run(prompt), prompt)
    assert report.width >= 400 and report.height >= 200
    assert [image["decision"] != "kept" for image in images].count(True) == 2
    # What Threshold is told for a budget is what the teacher takes.
    counted = prompt[only(prompt, "UnderstudyThreshold")]["inputs"]["teacher_evaluations"]
    assert {image["evaluations"] for image in images} == {0, counted}
    for image in images:
        redone = image["decision"] != "kept"
        assert (image["score"] < image["threshold"]) == redone
        assert (image["score_after"] is not None) == redone
        assert (image["evaluations"] > 0) == redone
        assert image["prompt"]


def test_demo_teacher_s_loader_does_not_run_when_all_pass(host):
    prompt = workflow(host, DEMO)
    use(prompt, "UnderstudyThreshold", mode="fixed", value=-1000.0)
    loader = only(prompt, "UnderstudyLoadDemo", part="teacher")
    host.forget()
    run = host.run(prompt)
    assert loader not in run.executed + run.cached
    assert only(prompt, "UnderstudyLoadDemo", part="student") in run.executed + run.cached
    _, images = results(host, run, prompt)
    assert {image["decision"] for image in images} == {"kept"} and len(images) == 8


def test_nodes_of_one_s_own_get_the_worst_images_and_no_others(host):
    prompt = workflow(host, ROUTED)
    own = {only(prompt, name) for name in ("VAEEncode", "KSampler")} | {
        only(prompt, "UnderstudyLoadDemo", part="teacher")
    }
    _, images = results(host, host.run(prompt), prompt)
    assert len(images) == 8
    for image in images:
        assert (image["decision"] in ("redone", "reverted")) == (image["score"] < image["threshold"])
        assert image["evaluations"] == (0 if image["decision"] == "kept" else None)
    assert [image["decision"] == "kept" for image in images].count(False) == 2
    use(prompt, "UnderstudyThreshold", mode="fixed", value=-1000.0)
    host.forget()
    run = host.run(prompt)
    assert not own & {*run.executed, *run.cached}
    assert {image["decision"] for image in results(host, run, prompt)[1]} == {"kept"}


def test_the_host_s_integer_node_may_draw_a_negative_seed(host):
    prompt = workflow(host, DEMO)
    use(prompt, "PrimitiveInt", value=-45479228789769)
    _, images = results(host, host.run(prompt), prompt)
    assert len(images) == 8 and sum(image["decision"] != "kept" for image in images) == 2


def test_one_seed_drives_student_and_teacher(host):
    for name in (DEMO, CHECKPOINT):
        prompt = workflow(host, name)
        seeds = [node["inputs"]["seed"] for node in prompt.values() if "seed" in node["inputs"]]
        assert len(seeds) == 2 and seeds[0] == seeds[1] and isinstance(seeds[0], list)


def test_unknown_words_of_the_demo_are_named(host):
    prompt = workflow(host, DEMO)
    text = only(prompt, "PrimitiveStringMultiline")
    prompt[text]["inputs"]["value"] = "a small red wombat"
    run = host.attempt(prompt)
    assert "wombat" in run.error


def test_demo_runs_in_stock_sampler_and_vae_nodes(host):
    prompt = workflow(host, DEMO)
    sampler = only(prompt, "UnderstudyStudentSampler")
    inputs = prompt[sampler]["inputs"]
    stock = {key: inputs[key] for key in ("model", "positive", "negative", "latent_image", "seed")}
    stock |= {"steps": 2, "cfg": 1.0, "sampler_name": "lcm", "scheduler": "sgm_uniform", "denoise": 1.0}
    prompt[sampler] = {"class_type": "KSampler", "inputs": stock}
    _, images = results(host, host.run(prompt), prompt)
    assert len(images) == 8


def test_edits_start_from_their_sources_and_are_compared_with_them(host):
    prompt = workflow(host, EDIT)
    likeness, shown = only(prompt, "UnderstudyLikeness"), only(prompt, "PreviewAny")
    alike = prompt[shown]["inputs"]["source"][0]
    source, result = prompt[likeness]["inputs"]["source"], prompt[alike]["inputs"]["images"]
    prompt["alike"] = {"class_type": "TestSaveTensors", "inputs": {"images": result, "floats": [alike, 1]}}
    prompt["source"] = {"class_type": "TestSaveTensors", "inputs": {"images": source}}
    edits = only(prompt, "UnderstudyStudentSampler", denoise=0.6)
    found = {}
    for strength in (0.6, 0.3):
        prompt[edits]["inputs"]["denoise"] = strength
        run = host.run(prompt)
        values, own = tensors(host, run, "alike"), tensors(host, run, "source")["images.0"]
        assert len(values["floats"]) == len(own) == 8
        expected = ssim(values["images.0"].movedim(-1, 1), own.movedim(-1, 1))
        torch.testing.assert_close(values["floats"].float(), expected, atol=1e-5, rtol=0)
        found[strength] = values["floats"].mean()
    assert found[0.3] > found[0.6] + 0.02


def test_things_lie_where_each_image_s_own_outline_has_them(host):
    prompt = workflow(host, OUTLINES)
    better = only(prompt, "UnderstudyKeepBetter")
    (first,) = (key for key, node in prompt.items() if node["class_type"] == "VAEDecode" and drawn(prompt, node))
    prompt["result"] = {"class_type": "TestSaveTensors", "inputs": {"images": [better, 0]}}
    prompt["first"] = {"class_type": "TestSaveTensors", "inputs": {"images": [first, 0]}}
    run = host.run(prompt)
    result, first = (things(tensors(host, run, node)["images.0"]) for node in ("result", "first"))
    own, other = (overlap(result, each) for each in (first, first.roll(1, 0)))
    assert len(own) == 8 and own.median() > 0.7 and own.mean() > other.mean() + 0.3, (own, other)


def drawn(prompt, decode):
    """Whether a VAE Decode is of what the demo's student drew, without an outline."""
    sampler = prompt[decode["inputs"]["samples"][0]]
    return sampler["class_type"] == "UnderstudyStudentSampler" and sampler["inputs"]["preset"] != "codi"


def things(images):
    """Where pictures [B, H, W, 3] are not their background, [B, H, W]."""
    background = images.flatten(1, 2).median(1).values[:, None, None]
    return (images - background).abs().amax(-1) > 0.25


def overlap(these, those):
    return (these & those).sum((1, 2)) / (these | those).sum((1, 2))
