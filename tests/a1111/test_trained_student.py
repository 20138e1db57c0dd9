"""A student that ``understudy train`` made, as the two files that A1111 loads: a LoRA and a checkpoint.

A1111 finds a LoRA's layers by SD 1.5's numbers of blocks, of which the other tests' shallow network has fewer: this one
has them all, and is narrow instead. Forge, which has no configuration beside it, knows none but SD 1.5's true size.
"""

import shutil

import pytest
from diffusers import UNet2DConditionModel
from PIL import Image
from understudy.a1111.choices import SAME
from understudy.distill_train.config import Recipe
from understudy.distill_train.exports.export import export
from understudy.distill_train.run.loop import set_up
from understudy.files import read_header
from understudy.files.student_file import StudentFile

from ..host import checkpoints
from ..pipelines.original_layout import unet_key
from .conftest import STUDENT
from .test_txt2img import asked

BASE, CHECKPOINT, LORA = "narrow.safetensors", "trained.safetensors", "trained-lora"
NARROW = {"model_channels: 320": "model_channels: 64", "channel_mult: [ 1, 2, 4, 4 ]": "channel_mult: [ 1, 1, 1, 1 ]"}
UNET = "model.diffusion_model."
PROMPT = "a red star above a blue circle"
WITH_LORA = f"{PROMPT}<lora:{LORA}:1>"


@pytest.fixture(scope="module")
def a1111(webui):
    """The other server has enough to do."""
    return webui


def narrow():
    """Keys and shapes of a Stable Diffusion 1.5 checkpoint with a UNet of 64 channels everywhere."""
    unet = UNet2DConditionModel(block_out_channels=[64] * 4, cross_attention_dim=768).state_dict()
    shapes = {UNET + unet_key(key, 2, unet): tuple(value.shape) for key, value in unet.items()}
    return shapes | {key: shape for key, shape in checkpoints.checkpoint().items() if not key.startswith(UNET)}


@pytest.fixture(scope="module")
def trained(a1111, tmp_path_factory):
    """The LoRA's file. Two steps at a rate at which they show in a picture, exported into the host's folders."""
    folder, models = tmp_path_factory.mktemp("trained"), a1111.base / "models"
    base = models / "Stable-diffusion" / BASE
    configured = base.with_name(STUDENT).with_suffix(".yaml").exists()  # else the host finds the layout itself
    checkpoints.save(base, narrow() if configured else checkpoints.checkpoint(checkpoints.SD15), seed=5)
    (folder / "pictures").mkdir()
    for number in range(2):
        path = folder / "pictures" / f"{number}.png"
        Image.linear_gradient("L").resize((64, 64)).rotate(90 * number).convert("RGB").save(path)
        path.with_suffix(".txt").write_text(f"number {number}")
    recipe = Recipe(
        method="lcm",
        seed=1,
        export="student.safetensors",
        teacher={"path": str(base)},
        student={"train": "lora", "rank": 4, "dtype": "fp32"},
        data={"kind": "folder", "path": str(folder / "pictures"), "size": 64},
        samples={"prompts": [PROMPT], "size": 64, "teacher_steps": 1},
        loop={"steps": 2, "batch_size": 2, "lr": 4e-2, "warmup": 0, "ema": 0.0, "tracker": "none"},
    )
    set_up(recipe, folder / "run", device="cpu").train()
    lora = export(folder / "run", "lora", out=models / "Lora" / f"{LORA}.safetensors").path
    merged = export(folder / "run", "checkpoint", out=base.with_name(CHECKPOINT), dtype="float32").path
    if configured:
        configuration = (a1111.checkout / "configs" / "v1-inference.yaml").read_text()
        for usual, small in NARROW.items():
            assert configuration.count(usual) == 1
            configuration = configuration.replace(usual, small)
        for file in (base, merged):
            file.with_suffix(".yaml").write_text(configuration)
    for kind in ("checkpoints", "loras"):
        a1111.post(f"/sdapi/v1/refresh-{kind}", {})
    yield lora
    shutil.rmtree(folder)
    for file in (lora, base, merged):
        file.unlink()


def by(a1111, checkpoint, *values, **changes):
    return a1111.make(*values, override_settings={"sd_model_checkpoint": checkpoint}, **changes)


@pytest.fixture(scope="module")
def by_lora(a1111, trained):
    return by(a1111, BASE, prompt=WITH_LORA)


def difference(some, others) -> int:
    """The largest of all bytes of two lists of pictures."""
    pairs = zip(some, others, strict=True)
    return max(abs(a - b) for one, other in pairs for a, b in zip(one, other, strict=True))


def test_the_lora_changes_the_pictures(a1111, trained, by_lora):
    assert read_header(trained).metadata["ss_network_dim"] == "4"
    assert difference(by_lora.pixels, by(a1111, BASE).pixels) > 20
    assert "not found" not in by_lora.comments and "failed to load" not in a1111.log_text().casefold()
    assert all(f'Lora hashes: "{LORA}: ' in text for text in by_lora.texts)


def test_merged_into_a_checkpoint_it_makes_the_same_pictures(a1111, by_lora):
    """So no key of it was left aside, and none of the checkpoint's."""
    assert difference(by(a1111, CHECKPOINT).pixels, by_lora.pixels) <= 2


@pytest.mark.parametrize("kind", ["LoRA", "checkpoint"])
def test_the_panels_button_fills_in_what_the_file_says(a1111, trained, kind):
    file = trained if kind == "LoRA" else a1111.base / "models" / "Stable-diffusion" / CHECKPOINT
    said, before = StudentFile.read(file), a1111.get("/sdapi/v1/options")["sd_model_checkpoint"]
    a1111.post("/sdapi/v1/options", {"sd_model_checkpoint": BASE if kind == "LoRA" else CHECKPOINT})
    try:
        prompt = WITH_LORA if kind == "LoRA" else PROMPT
        found = a1111.press("txt2img_understudy_settings", prompt, "<lora:*lcm*>")
    finally:
        a1111.post("/sdapi/v1/options", {"sd_model_checkpoint": before})
    sampling = [found[f"txt2img_{name}"] for name in ("steps", "cfg_scale", "sampling", "scheduler")]
    assert sampling == [said.steps, said.guidance, "LCM", "SGM Uniform"]
    teacher, removed = (found[f"txt2img_understudy_{name}"] for name in ("teacher", "remove"))
    assert teacher == SAME if kind == "LoRA" else teacher.startswith(BASE)
    assert removed == (f"<lora:*lcm*>,<lora:{LORA}:*>" if kind == "LoRA" else None)
    assert f"{file.name}: LCM, SGM Uniform, {said.steps} steps" in found["txt2img_understudy_settings_said"]


def test_each_is_the_student_of_a_teachers_pass(a1111, by_lora):
    one = by(a1111, BASE, *asked(remove="<lora:*>"), prompt=WITH_LORA)
    other = by(a1111, CHECKPOINT, *asked(teacher=BASE))
    for made in (one, other):
        decisions = made.said("decision")
        assert sorted(decisions) == ["kept", "kept", "redone", "redone"]
        moved = [difference([pixels], [before]) for pixels, before in zip(made.pixels, by_lora.pixels, strict=True)]
        assert [far > 2 for far in moved] == [word == "redone" for word in decisions]
