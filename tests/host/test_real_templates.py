"""The templates of real models, with small random files in the place of theirs; all are of SD 1.5's layout."""

import io
import json

import pytest
from PIL import Image
from understudy.samplers.presets import of_file
from understudy.templates.prompts import least_host, prompt_of

from . import environment
from .checkpoints import CHECKPOINT, CLIP, CONTROLNET, LORA, TEACHER
from .environment import PACK
from .graphs import only

NAMES = [path.stem for path in sorted((PACK / "example_workflows").glob("Understudy [1-9][0-9] - *.json"))]
REDONE = [name for name in NAMES if name.split()[1] < "52"] + ["Understudy 55 - Redo with a detailer"]
SIDE = 64


@pytest.fixture
def run(host):
    """(template, changes of widgets by class) -> the prompt that was run, and its Run."""
    Image.new("RGB", (96, 64), "teal").save(host.base / "input" / "example.png")
    version = environment.version(host.checkout)

    def run(name, **changes):
        saved = json.loads((PACK / "example_workflows" / f"{name}.json").read_text(encoding="utf-8"))
        if version < tuple(map(int, least_host(saved).split("."))):
            pytest.skip(f"{name} is for later hosts")
        prompt = with_small_files(prompt_of(saved, host.object_info()))
        for node in prompt.values():
            node["inputs"].update(changes.get(node["class_type"], {}))
        return prompt, host.run(prompt)

    return run


def with_small_files(prompt):
    """Every student as the checkpoint with an LCM LoRA, every teacher as another checkpoint of the same weights."""
    small = {
        "small": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": CHECKPOINT}},
        "small student": {
            "class_type": "LoraLoaderModelOnly",
            "inputs": {"model": ["small", 0], "lora_name": LORA, "strength_model": 1.0},
        },
        "small teacher": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": TEACHER}},
    }
    instead = {}
    for key, node in prompt.items():
        kind, inputs = node["class_type"], node["inputs"]
        if kind in ("CheckpointLoaderSimple", "UNETLoader"):
            student = of_file(inputs.get("ckpt_name") or inputs["unet_name"])
            instead[key] = [["small student" if student else "small teacher", 0], ["small", 1], ["small", 2]]
        elif kind in ("LoraLoaderModelOnly", "CLIPLoader", "VAELoader"):
            instead[key] = [{"L": ["small student", 0], "C": ["small", 1], "V": ["small", 2]}[kind[0]]]
        elif kind == "ControlNetLoader":
            inputs["control_net_name"] = CONTROLNET
        elif kind == "UnderstudyLoadOracle":
            inputs["oracle_name"] = CLIP
        elif kind == "EmptyLatentImage":
            inputs |= {"width": SIDE, "height": SIDE}
        elif kind == "ImageScaleToTotalPixels":
            inputs["megapixels"] = 0.01
    kept = {key: node for key, node in prompt.items() if key not in instead}
    for node in kept.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] in instead:
                node["inputs"][name] = instead[value[0]][value[1]]
    return kept | small


def facts(host, prompt, run):
    """What each saved image says of itself."""
    saved = run.outputs[only(prompt, "UnderstudyReceipt")]["saved"]
    return [json.loads(Image.open(io.BytesIO(host.image(each))).text["understudy"]) for each in saved]


@pytest.mark.parametrize("name", REDONE)
def test_the_worst_image_of_four_is_redone(host, run, name):
    prompt, done = run(name)
    images = facts(host, prompt, done)
    assert [image["decision"] != "kept" for image in images].count(True) == 1 and len(images) == 4
    (changed,) = (image for image in images if image["decision"] != "kept")
    assert changed["score"] == min(image["score"] for image in images) < changed["threshold"]
    if "UnderstudyTeacher" in {node["class_type"] for node in prompt.values()}:
        assert changed["evaluations"] == 2 * 25 and changed["score_after"] is not None  # SD 1.5's, by the table
    (shown,) = [key for key, node in prompt.items() if node["class_type"] == "PreviewImage"] or [
        only(prompt, "UnderstudyReceipt")
    ]
    report = Image.open(io.BytesIO(host.image(done.outputs[shown]["images"][0])))
    assert report.width > 400


@pytest.mark.parametrize("name", [name for name in REDONE if "detailer" not in name])
def test_no_teacher_is_loaded_where_all_pass(host, run, name):
    host.forget()
    prompt, done = run(name, UnderstudyThreshold={"fraction": 0.0})
    assert {image["decision"] for image in facts(host, prompt, done)} == {"kept"}
    assert "small teacher" not in done.executed + done.cached


def test_the_edited_picture_reaches_both_conditionings(host, run):
    prompt, _ = run("Understudy 50 - Edit a picture")
    references = [node["inputs"] for node in prompt.values() if node["class_type"] == "ReferenceLatent"]
    assert len(references) == 2 and references[0]["latent"] == references[1]["latent"]
    scored, encoded = only(prompt, "UnderstudyScoreImages"), references[0]["conditioning"][0]
    assert prompt[scored]["inputs"]["prompt"] != prompt[encoded]["inputs"]["text"]


def test_best_of_n_tries_each_image_four_times(host, run):
    prompt, done = run("Understudy 52 - Best of n")
    (said,) = done.outputs[only(prompt, "UnderstudyBestOf")]["text"]
    assert said.startswith("4 images: 16 tries, 64 network evaluations")
    assert len(done.outputs[only(prompt, "SaveImage")]["images"]) == 4


def test_each_oracle_shows_the_quarter_that_it_rejects(host, run):
    prompt, done = run("Understudy 53 - Compare oracles")
    shown = [key for key, node in prompt.items() if node["class_type"] == "PreviewImage"]
    assert [len(done.outputs[key]["images"]) for key in shown] == [2, 2]


def test_a_calibration_counts_each_image_once(host, run):
    prompt, done = run("Understudy 54 - Calibrate")
    (said,) = done.outputs[only(prompt, "UnderstudyCalibrate")]["text"]
    assert said.startswith("SDXL Lightning - ImageReward: 12 new, 12 in all")
    assert done.outputs[only(prompt, "UnderstudyShowCalibration")]["images"]
