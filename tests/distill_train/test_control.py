"""A student under a condition picture: a ControlNet on the teacher's network."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from understudy.demo_family import family
from understudy.demo_family.control import load_control
from understudy.distill_train.config import RecipeError
from understudy.distill_train.data.batch import Batch
from understudy.distill_train.data.randomness import Draws
from understudy.distill_train.methods import make_method
from understudy.distill_train.run.directory import Run
from understudy.distill_train.run.loop import train
from understudy.distill_train.teachers import load_teacher
from understudy.files import CheckpointError
from understudy.pipelines.layout import original_unet_names

from ..pipelines.conftest import save_pair, sd15_parts, sdxl_parts
from .test_codi import BASES, NAMES
from .tiny import CPU, TinySource, TinyTeacher, changed, method, recipe
from .two_processes import run_in_two_processes

FROZEN = {"train": "control"}
CPU_FOLDER = Path("run")  # nothing is written there


def of(base, **student):
    return {"train": "control", "base": base, **BASES[base], **student}


def call(teacher, network, batch, condition=None):
    z, t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3)), torch.tensor([900, 40])
    given = dict(batch.embeddings)
    if condition is not None:
        given["condition"] = condition
    with torch.no_grad():
        return teacher.call(network, z, t, given)


@pytest.mark.parametrize("base", BASES)
def test_a_fresh_one_changes_nothing_to_the_last_bit_and_a_trained_one_does(base):
    teacher = TinyTeacher()
    batch = TinySource(teacher).batch(0, range(2))
    alone = call(teacher, teacher.unet, batch)
    it = method(NAMES[base], student=of(base), teacher=teacher)
    condition = batch.extras["condition"]
    assert torch.equal(call(teacher, it.network, batch, condition), alone)
    changed(it.network)
    trained = call(teacher, it.network, batch, condition)
    assert not torch.allclose(trained, alone, atol=1e-2)
    assert not torch.allclose(call(teacher, it.network, batch, 1 - condition), trained, atol=1e-4)
    with it.student.teaching() as network:  # is not told, and is as it was loaded
        assert torch.equal(call(teacher, network, batch, condition), alone)


@pytest.mark.parametrize("base", BASES)
def test_what_trains_and_what_is_in_memory(base):
    it = method(NAMES[base], student=of(base))
    names = {name.split(".")[0] for name, p in it.network.named_parameters() if p.requires_grad}
    assert names == {"control"} if base == "frozen" else {"control", "trained_base"}
    assert not any(p.requires_grad for p in it.teacher.unet.parameters())
    assert {p.dtype for p in it.student.parameters} == {torch.float32}
    under = it.network.base.base if base == "lora" else it.network.base
    assert (under is it.teacher.unet) == (base != "full")


def test_the_frozen_network_has_the_recipe_s_precision_and_what_trains_the_file_s():
    teacher = TinyTeacher()
    exact = teacher.unet.conv_in.weight.clone()
    it = method("pe-codi", {"precision": "bf16"}, FROZEN, teacher)
    assert {p.dtype for p in teacher.unet.parameters()} == {torch.bfloat16}
    assert torch.equal(it.network.control.conv_in.weight, exact)
    with torch.autocast("cpu", torch.bfloat16):
        it.loss(it.network, 0).backward()
    assert all(torch.isfinite(p.grad).all() for p in it.student.parameters)


def start(given, directory, resume=False):
    def make(recipe, device):
        teacher = TinyTeacher()
        return make_method(recipe, device, teacher=teacher, source=TinySource(teacher))

    return train(given, directory, resume, "cpu", make)


def losses(run):
    lines = (run / "log.jsonl").read_text().splitlines()
    return [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]


@pytest.mark.parametrize("base", BASES)
def test_a_run_goes_on_to_the_last_bit_and_its_file_is_diffusers_s_own(tmp_path, base):
    given = recipe(NAMES[base], {"checkpoint_every": 2, "ema": 0.5}, of(base), intervals=10, target_ema=0.5)
    whole = load_file(start(given, tmp_path / "whole"))
    path = start(given, tmp_path / "run")
    Run(tmp_path / "run").checkpoints()[-1].unlink()
    again = load_file(start(given, tmp_path / "run", True))
    assert again.keys() == whole.keys() and all(torch.equal(again[key], whole[key]) for key in whole)

    teacher = TinyTeacher()
    fresh = ControlNetModel.from_unet(teacher.unet, conditioning_embedding_out_channels=(16,))
    own = {key: value for key, value in whole.items() if not key.startswith(("base.", "lora_unet_"))}
    fresh.load_state_dict(own)
    assert any(value.abs().max() > 0 for key, value in own.items() if key.startswith("controlnet_"))
    with safe_open(path, framework="pt") as file:
        said = file.metadata()
    assert (said["trained"], said["base_trained"]) == ("control", base) and ("rank" in said) == (base == "lora")
    if base == "full":
        weights = {key.removeprefix("base."): value for key, value in whole.items() if key.startswith("base.")}
        teacher.unet.load_state_dict(weights)
        assert not torch.equal(weights["conv_out.weight"], TinyTeacher().unet.conv_out.weight)
    if base == "lora":
        assert any(key.startswith("lora_unet_") for key in whole)


@pytest.mark.parametrize("base", BASES)
def test_in_parts_and_with_checkpointing_it_is_the_same(tmp_path, base):
    for name, loop in (("plain", {}), ("parts", {"accumulate": 2}), ("saving", {"checkpointing": True})):
        start(recipe(NAMES[base], loop, of(base)), tmp_path / name)
    for name in ("parts", "saving"):
        assert losses(tmp_path / name) == pytest.approx(losses(tmp_path / "plain"), rel=1e-4)


def test_from_a_controlnet_that_was_given_its_weights_change_and_it_teaches_as_it_was(tmp_path):
    first = start(recipe("controlnet", {"lr": 0.05}, FROZEN), tmp_path / "first")
    student = of("frozen", control=str(first))
    teacher = TinyTeacher()
    it = method("pe-codi", student=student, teacher=teacher)
    batch = TinySource(teacher).batch(0, range(2))
    condition = batch.extras["condition"]
    given = call(teacher, it.network, batch, condition)
    assert not torch.allclose(given, call(teacher, teacher.unet, batch), atol=1e-3)
    changed(it.network)
    with it.student.teaching() as network:
        assert torch.equal(call(teacher, network, batch, condition), given)
    weights = load_file(start(recipe("pe-codi", None, student), tmp_path / "second"))
    before = load_file(first)
    assert weights.keys() == before.keys()
    moved = [key for key in weights if not torch.equal(weights[key], before[key])]
    assert len(moved) == len(weights)


def test_another_controlnet_is_not_taken_for_the_one_that_a_run_began_with(tmp_path):
    first = start(recipe("controlnet", {"lr": 0.05}, FROZEN), tmp_path / "first")
    given = recipe("pe-codi", {"checkpoint_every": 2}, of("frozen", control=str(first)))
    start(given, tmp_path / "run")
    other = tmp_path / "other.safetensors"
    save_file({key: value + 1 for key, value in load_file(first).items()}, other)
    given = recipe("pe-codi", {"checkpoint_every": 2}, of("frozen", control=str(other)))
    with pytest.raises(RecipeError, match="something else in the place of its ControlNet"):
        start(given, tmp_path / "run", True)


def test_a_file_that_is_no_controlnet_of_this_network_is_refused(tmp_path):
    file = tmp_path / "other.safetensors"
    save_file({"time_embedding.linear_1.weight": torch.zeros(2, 2)}, file)
    with pytest.raises(RecipeError, match=r"student.control: .*other.safetensors is no ControlNet of the teacher's"):
        method("pe-codi", student=of("frozen", control=str(file)))
    with pytest.raises(FileNotFoundError, match="missing"):
        method("pe-codi", student=of("frozen", control=str(tmp_path / "missing.safetensors")))
    with pytest.raises(ValueError, match="base and control are for train = control, not full"):
        recipe("pe-codi", None, {"train": "full", "base": "lora"})


@pytest.mark.parametrize(("kind", "parts"), [("sd1", sd15_parts), ("sdxl", sdxl_parts)])
def test_checkpoints_and_diffusers_folders_of_controlnets(kind, parts, tmp_path):
    """Of both architectures, from a folder and, for SD 1.x, from the original layout with its prefix."""
    _, file = save_pair(parts(), tmp_path)
    teacher = load_teacher(file)
    torch.manual_seed(2)
    control = ControlNetModel.from_unet(teacher.unet, conditioning_embedding_out_channels=(16, 32))
    changed(control.requires_grad_(True))
    control.save_pretrained(tmp_path / "control")
    given = {"source": object(), "teacher": teacher}
    it = make_method(recipe("pe-codi", None, of("frozen", control=str(tmp_path / "control"))), CPU, **given)
    it.make_student()  # as `prepare` does once the texts are embedded
    batch = {**teacher.embed(["a", "b"]), **teacher.sizes(16, 16, 2)}
    z, t, condition = torch.randn(2, 4, 8, 8), torch.tensor([500, 7]), torch.rand(2, 3, 16, 16)
    told = {"encoder_hidden_states": batch["context"]}
    if kind == "sdxl":
        told["added_cond_kwargs"] = {"text_embeds": batch["pooled"], "time_ids": batch["time_ids"]}
    with torch.no_grad():
        down, mid = control(z, t, controlnet_cond=condition, return_dict=False, **told)
        added = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
        theirs = teacher.unet(z, t, **told, **added).sample
        ours = teacher.call(it.network, z, t, {**batch, "condition": condition})
    torch.testing.assert_close(ours, theirs)
    assert not torch.allclose(theirs, teacher.unet(z, t, **told).sample, atol=1e-2)
    if kind == "sd1":
        save_file(original(control.state_dict()), tmp_path / "original.safetensors")
        student = of("frozen", control=str(tmp_path / "original.safetensors"))
        again = make_method(recipe("pe-codi", None, student), CPU, **given)
        again.make_student()
        again = again.network.control.state_dict()
        assert all(torch.equal(again[key], value) for key, value in control.state_dict().items())


def original(weights):
    """As the first ControlNets were published."""
    own = {"conv_in": "input_hint_block.0", "conv_out": "input_hint_block.14"}
    own |= {f"blocks.{at}": f"input_hint_block.{2 * at + 2}" for at in range(2)}
    own = {f"controlnet_cond_embedding.{key}": name for key, name in own.items()}
    own |= {f"controlnet_down_blocks.{at}": f"zero_convs.{at}.0" for at in range(12)}
    own["controlnet_mid_block"] = "middle_block_out.0"
    names = original_unet_names([key for key in weights if not key.startswith("controlnet_")], 1)
    for key in weights:
        if key not in names:
            layer, _, parameter = key.rpartition(".")
            names[key] = f"{own[layer]}.{parameter}"
    return {f"control_model.{names[key]}": value.clone() for key, value in weights.items()}


@pytest.mark.parametrize("base", ["frozen", "full"])
def test_of_the_demo_family_it_is_a_file_that_the_family_loads(tmp_path, base):
    teacher = load_teacher("demo")
    it = make_method(recipe(NAMES[base], None, of(base)), CPU, teacher=teacher, source=object())
    tokens, condition = family.tokens_of(["red star", "blue circle"]), torch.rand(2, 3, 64, 64)
    batch = Batch(torch.randn(2, 8, 8, 8), {"tokens": tokens}, (), 64, 64, {"condition": condition})
    it.batch_loss(it.network, batch, Draws(0, range(2))).backward()
    assert teacher.unet.text.weight.grad is None and it.network.base.text.weight.grad is None
    changed(it.network, by=0.02)
    path = tmp_path / "control.safetensors"
    it.export(it.network, path)
    if base == "full":
        with pytest.raises(CheckpointError, match="is not a ControlNet of the demo family alone"):
            load_control(path)
        return
    control, z, t = load_control(path), torch.randn(2, 8, 8, 8), torch.tensor([700, 90])
    with torch.no_grad():
        theirs = teacher.unet(z, t, tokens, control(z, t, teacher.unet.text(tokens), condition))
        ours = teacher.call(it.network, z, t, it.conditioning(batch))
    torch.testing.assert_close(ours, theirs)
    again = recipe("pe-codi", None, of("frozen", control=str(path)))
    it = make_method(again, CPU, teacher=load_teacher("demo"), source=object())
    assert torch.equal(it.network.control.middle_join.weight, control.middle_join.weight)


def test_previews_show_the_hint_of_the_first_samples():
    it = method("pe-codi", student=FROZEN)
    it.prepare(CPU_FOLDER)
    with torch.no_grad():
        grid, figures = it.measure(it.network)
    hints = it.source.batch(0, range(4)).extras["condition"]
    assert it.headings == ("hint", "student@1", "student@2", "student@4", "teacher") and figures == {}
    assert grid.shape == (20, 3, 8, 8) and torch.equal(grid[::5], hints)
    changed(it.network)
    with torch.no_grad():
        again, _ = it.measure(it.network)
    assert torch.equal(grid[4::5], again[4::5]) and not torch.allclose(grid[1::5], again[1::5], atol=1e-3)


class Bare(TinySource):
    """Data without conditions, or with those of another shape."""

    shape = None

    def batch(self, step, indices):
        batch = super().batch(step, indices)
        extras = {} if self.shape is None else {"condition": torch.zeros(len(indices), *self.shape)}
        return Batch(batch.latents, batch.embeddings, batch.names, 8, 8, extras)


def test_data_without_conditions_or_with_others_are_refused():
    teacher = TinyTeacher()
    source = Bare(teacher)
    for shape, said in (
        (None, "needs a condition picture for each sample: data of the kind folder, webdataset or scenes"),
        ((1, 8, 8), "expected"),
    ):
        source.shape = shape
        it = make_method(recipe("pe-codi", None, FROZEN), CPU, teacher=teacher, source=source)
        with pytest.raises(RecipeError, match=said):
            it.prepare(CPU_FOLDER)


@pytest.mark.slow
@pytest.mark.parametrize("base", ["frozen", "full"])
def test_two_processes_are_one_with_the_whole_batch(tmp_path, base):
    start(pair_of(base), tmp_path / "alone")
    code = f"import sys; from tests.distill_train.test_control import *; start(pair_of({base!r}), Path(sys.argv[1]))"
    run_in_two_processes("-c", code, str(tmp_path / "pair"))
    assert losses(tmp_path / "pair") == pytest.approx(losses(tmp_path / "alone"), rel=1e-4)
    ours, theirs = (load_file(tmp_path / run / "exports" / "student.safetensors") for run in ("pair", "alone"))
    apart = torch.cat([(ours[key] - value).abs().flatten() for key, value in theirs.items()])
    assert ours.keys() == theirs.keys() and apart.mean() < 2e-5


def pair_of(base):
    return recipe(NAMES[base], {"accumulate": 2, "batch_size": 8, "ema": 0.5}, of(base), target_ema=0.5)
