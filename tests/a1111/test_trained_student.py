"""A student that ``understudy train`` made, as the two files that A1111 loads: a LoRA and a checkpoint."""

import shutil

import pytest
from PIL import Image
from understudy.distill_train.config import Recipe
from understudy.distill_train.exports.export import export
from understudy.distill_train.run.loop import set_up
from understudy.files import read_header

from .conftest import STUDENT
from .test_txt2img import asked

LORA, CHECKPOINT = "trained-lora", "trained.safetensors"
PROMPT = "a red star above a blue circle"
WITH_LORA = f"{PROMPT}<lora:{LORA}:1>"


@pytest.fixture(scope="module")
def trained(a1111, tmp_path_factory):
    """The LoRA's file. Two steps at a rate at which they show in a picture, exported into the host's folders."""
    folder, models = tmp_path_factory.mktemp("trained"), a1111.base / "models"
    base = models / "Stable-diffusion" / STUDENT
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
        loop={"steps": 2, "batch_size": 2, "lr": 2e-3, "warmup": 0, "ema": 0.0, "tracker": "none"},
    )
    set_up(recipe, folder / "run", device="cpu").train()
    lora = export(folder / "run", "lora", out=models / "Lora" / f"{LORA}.safetensors").path
    merged = export(folder / "run", "checkpoint", out=base.with_name(CHECKPOINT), dtype="float32").path
    shutil.copyfile(base.with_suffix(".yaml"), merged.with_suffix(".yaml"))
    shutil.rmtree(folder)
    a1111.post("/sdapi/v1/refresh-checkpoints", {})
    return lora


@pytest.fixture(scope="module")
def by_lora(a1111, trained):
    return a1111.make(prompt=WITH_LORA)


def by_checkpoint(a1111, *values):
    return a1111.make(*values, override_settings={"sd_model_checkpoint": CHECKPOINT})


def difference(some, others) -> int:
    """The largest of all bytes of two lists of pictures."""
    pairs = zip(some, others, strict=True)
    return max(abs(a - b) for one, other in pairs for a, b in zip(one, other, strict=True))


def test_the_lora_is_one_of_kohyas_that_changes_the_pictures(a1111, trained, by_lora):
    assert read_header(trained).metadata["ss_network_dim"] == "4"
    assert difference(by_lora.pixels, a1111.make().pixels) > 20
    assert "not found" not in by_lora.comments and "failed to load" not in a1111.log_text().casefold()
    assert all(f'Lora hashes: "{LORA}: ' in text for text in by_lora.texts)


def test_merged_into_a_checkpoint_it_makes_the_same_pictures(a1111, trained, by_lora):
    """So no key of it was left aside, and none of the checkpoint's."""
    assert difference(by_checkpoint(a1111).pixels, by_lora.pixels) <= 2


def test_each_is_the_student_of_a_teachers_pass(a1111, trained, by_lora):
    one = a1111.make(*asked(remove="<lora:*>"), prompt=WITH_LORA)
    other = by_checkpoint(a1111, *asked(teacher=STUDENT))
    for made in (one, other):
        decisions = made.said("decision")
        assert sorted(decisions) == ["kept", "kept", "redone", "redone"]
        moved = [difference([pixels], [before]) for pixels, before in zip(made.pixels, by_lora.pixels, strict=True)]
        assert all((far > 20) == (word == "redone") for far, word in zip(moved, decisions, strict=True))
    # The teacher is the base without the LoRA either way: it went on from the same latents to the same pictures.
    assert difference(one.pixels, other.pixels) <= 4
