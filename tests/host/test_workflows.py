"""The example workflows, as they are in the pack."""

import io
import json

import pytest
import torch
from PIL import Image
from understudy.demo_family.checker import exact
from understudy.demo_family.language import parse
from understudy.oracles.likeness import ssim
from understudy.templates.prompts import prompt_of

from .environment import PACK
from .graphs import only
from .tensors import tensors

DEMO, APP, ROUTED, EDIT, OUTLINES = NAMES = (
    "Understudy 1 - Demo (no download)",
    "Understudy 2 - Demo app (no download)",
    "Understudy 3 - Your own nodes (no download)",
    "Understudy 4 - Editing (no download)",
    "Understudy 5 - Outlines (no download)",
)


def saved(name):
    return json.loads((PACK / "example_workflows" / f"{name}.json").read_text(encoding="utf-8"))


def workflow(host, name):
    return prompt_of(saved(name), host.object_info())


def nodes_of(graph):
    """The nodes by their ids in the prompt, those of blocks too."""
    blocks = {each["id"]: each for each in graph["definitions"]["subgraphs"]}
    for node in graph["nodes"]:
        inside = blocks[node["type"]]["nodes"] if node["type"] in blocks else ()
        yield from ((f"{node['id']}:{each['id']}", each) for each in inside)
        if not inside:
            yield str(node["id"]), node


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


@pytest.mark.parametrize("name", NAMES)
def test_a_template_has_the_nodes_as_they_are(host, name):
    """Each widget its value, though an absent one at the end would take its default, and each socket its name."""
    about, prompt = host.object_info(), workflow(host, name)
    for key, node in nodes_of(saved(name)):
        if not node["type"].startswith("Understudy"):
            continue
        info, given = about[node["type"]], prompt[key]["inputs"]
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


@pytest.mark.parametrize("name, share", [(DEMO, 3 / 8), (APP, 3 / 8), (EDIT, 1 / 4), (OUTLINES, 1 / 4)])
def test_a_template_redoes_the_worst_share(host, name, share):
    prompt = workflow(host, name)
    report, images = results(host, host.run(prompt), prompt)
    assert report.width >= 400 and report.height >= 200
    assert [image["decision"] != "kept" for image in images].count(True) == 8 * share == 8 * share // 1
    assert {image["evaluations"] for image in images} == {0, 12}
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


def test_the_demo_tells_its_story(host):
    """The student fails at three of the pictures, the teacher mends them, and the other five show their prompts."""
    prompt = workflow(host, DEMO)
    receipt = prompt[only(prompt, "UnderstudyReceipt")]["inputs"]
    asked = {"before": receipt["images_before"], "after": receipt["images"]}
    for name, images in asked.items():
        prompt[name] = {"class_type": "TestSaveTensors", "inputs": {"images": images}}
    run = host.run(prompt)
    _, told = results(host, run, prompt)
    scenes = [parse(image["prompt"]) for image in told]
    right = {}
    for name in asked:
        batches = [tensors(host, run, name)[f"images.{batch}"] for batch in range(4)]
        right[name] = exact(torch.cat(batches).movedim(-1, 1), scenes)
    assert right["after"] == [True] * 8
    assert right["before"] == [image["decision"] == "kept" for image in told] and right["before"].count(False) == 3


def test_the_host_s_integer_node_may_draw_a_negative_seed(host):
    prompt = workflow(host, DEMO)
    prompt["seed"] = {"class_type": "PrimitiveInt", "inputs": {"value": -45479228789769}}
    use(prompt, "UnderstudyStudentSampler", seed=["seed", 0])
    use(prompt, "UnderstudyTeacher", seed=["seed", 0])
    _, images = results(host, host.run(prompt), prompt)
    assert len(images) == 8 and sum(image["decision"] != "kept" for image in images) == 3


def test_the_student_s_seed_is_the_teacher_s(host):
    prompt = workflow(host, DEMO)
    host.forget()
    said = host.run(prompt).outputs[only(prompt, "UnderstudyTeacher")]["text"][0]
    assert "seed 4 of the student's latent" in said and "seed 4 of the widget" not in said


def test_unknown_words_of_the_demo_are_named(host):
    prompt = workflow(host, DEMO)
    use(prompt, "UnderstudyPrompts", text="a small red wombat")
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
