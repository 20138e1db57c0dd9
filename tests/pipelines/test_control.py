"""ControlNets from files in both layouts and from folders; hints that follow their images."""

import re

import pytest
import torch
from safetensors.torch import save_file
from understudy.files import CheckpointError
from understudy.pipelines.checkpoint import open_checkpoint
from understudy.pipelines.control import check_control, load_control
from understudy.pipelines.layout import original_unet_names
from understudy.pipelines.model import StudentPlan, TeacherPlan, draw, redo
from understudy.pipelines.stable_diffusion import Control, StableDiffusion

SIZE = (16, 16)
CPU = torch.device("cpu")


def controlnet(unet, channels=(16, 32), trained=True):
    """A fresh ControlNet, whose joins are zero, or one with others."""
    from diffusers import ControlNetModel

    torch.manual_seed(4)
    network = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=channels)
    if trained:
        for name, value in network.named_parameters():
            if re.match(r"controlnet_(down_blocks|mid_block|cond_embedding.conv_out)", name):
                torch.nn.init.normal_(value, std=0.3)
    return network.eval().requires_grad_(False)


def original_names(network):
    """The original layout's name of each of a ControlNet's tensors."""
    keys = list(network.state_dict())
    own = [key for key in keys if key.startswith("controlnet_")]
    names = original_unet_names([key for key in keys if key not in own], network.config.layers_per_block)
    last = 2 * len(network.controlnet_cond_embedding.blocks) + 2
    for key in own:
        kind = key.rpartition(".")[2]
        if match := re.match(r"controlnet_down_blocks\.(\d+)", key):
            names[key] = f"zero_convs.{match[1]}.0.{kind}"
        elif match := re.match(r"controlnet_cond_embedding\.blocks\.(\d+)", key):
            names[key] = f"input_hint_block.{2 * int(match[1]) + 2}.{kind}"
        else:
            first = {"controlnet_mid_block": "middle_block_out.0"}
            hint = {"conv_in": "input_hint_block.0", "conv_out": f"input_hint_block.{last}"}
            module = key.rpartition(".")[0]
            names[key] = f"{first.get(module) or hint[module.rpartition('.')[2]]}.{kind}"
    return names


@pytest.fixture(scope="module")
def loaded(sd15, sdxl):
    return {"sd15": open_checkpoint(sd15[1]).load(torch.float32), "sdxl": open_checkpoint(sdxl[1]).load(torch.float32)}


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_every_layout_gives_the_same_network(loaded, name, tmp_path):
    unet = loaded[name].unet
    network = controlnet(unet, (16, 32, 96, 256))
    network.save_pretrained(tmp_path / "folder")
    state, names = network.state_dict(), original_names(network)
    save_file(state, tmp_path / "diffusers.safetensors")
    save_file({names[key]: value for key, value in state.items()}, tmp_path / "bare.safetensors")
    prefixed = {f"control_model.{names[key]}": value for key, value in state.items()}
    save_file({**prefixed, "first_stage_model.x": torch.zeros(1)}, tmp_path / "original.safetensors")
    for file in ("folder", "diffusers.safetensors", "bare.safetensors", "original.safetensors"):
        found = load_control(tmp_path / file, unet, torch.float32).state_dict()
        assert found.keys() == state.keys()
        assert all(torch.equal(found[key], state[key]) for key in state), file


def test_what_is_none_or_of_another_architecture_is_refused(loaded, sd15, tmp_path):
    save_file(controlnet(loaded["sdxl"].unet).state_dict(), tmp_path / "sdxl.safetensors")
    with pytest.raises(CheckpointError, match="reads texts of 96 numbers a token.* 32: it is another architecture"):
        load_control(tmp_path / "sdxl.safetensors", loaded["sd15"].unet, torch.float32)
    with pytest.raises(CheckpointError, match="is no ControlNet"):
        check_control(sd15[1])
    with pytest.raises(CheckpointError, match="config.json is missing"):
        check_control(sd15[0])
    with pytest.raises(CheckpointError, match="is a UNet2DConditionModel; expected a ControlNetModel"):
        check_control(sd15[0] / "unet")
    state = controlnet(loaded["sd15"].unet).state_dict()
    save_file({**state, "task_embedding": torch.zeros(1)}, tmp_path / "union.safetensors")
    with pytest.raises(CheckpointError, match="a union of ControlNets"):
        check_control(tmp_path / "union.safetensors")
    for name in ("lora_unet_mid.alpha", "base.conv_in.weight"):
        save_file({**state, name: torch.zeros(1)}, tmp_path / "whole.safetensors")
        with pytest.raises(CheckpointError, match="whole.* holds what trained of its base, too; 'understudy export'"):
            check_control(tmp_path / "whole.safetensors")
    del state["conv_in.weight"]
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(CheckpointError, match="lacks conv_in.weight"):
        load_control(tmp_path / "part.safetensors", loaded["sd15"].unet, torch.float32)
    with pytest.raises(FileNotFoundError):
        check_control(tmp_path / "nothing.safetensors")


PROMPTS, SEEDS = ["a cat", "a dog"], [5, 6]


def quiet(step, steps):
    pass


def drawn(parts, hints, control, places=(0, 1), cfg=1.0):
    model = StableDiffusion(parts, CPU, control=control)
    prompts, seeds = ([of[i] for i in places] for of in (PROMPTS, SEEDS))
    own = None if hints is None else hints[list(places)]
    images, evaluations = draw(model, prompts, seeds, SIZE, StudentPlan(2, cfg), quiet, hints=own)
    plan = TeacherPlan(2, 2.0)
    redone, _ = redo(model, images, prompts, seeds, SIZE, plan, quiet, hints=own)
    assert evaluations == 2 * (1 if cfg == 1 else 2)
    return torch.stack([images, redone], dim=1)


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_a_fresh_controlnet_changes_nothing_and_a_trained_one_follows_its_hint(loaded, name):
    parts = loaded[name]
    hints = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    plain = drawn(parts, None, None)
    assert torch.equal(drawn(parts, hints, Control(controlnet(parts.unet, trained=False))), plain)
    trained = controlnet(parts.unet)
    both = drawn(parts, hints, Control(trained))
    assert (both - plain).abs().max() > 0.01
    assert torch.equal(drawn(parts, hints, Control(trained, 0.0)), plain)
    swapped = drawn(parts, hints, Control(trained), (1, 0))
    torch.testing.assert_close(swapped.flip(0), both, atol=1e-4, rtol=0)
    torch.testing.assert_close(drawn(parts, hints, Control(trained), (1,))[0], both[1], atol=1e-4, rtol=0)
    other = drawn(parts, hints.flip(0), Control(trained))
    assert (other - both).abs().max() > 0.003


def test_guidance_reads_the_hint_on_both_branches(loaded):
    parts = loaded["sd15"]
    hints = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(2))
    seen = []

    class Watched(Control):
        def residuals(self, x, t, hint, *rest):
            seen.append(hint)
            return super().residuals(x, t, hint, *rest)

    drawn(parts, hints, Watched(controlnet(parts.unet)), cfg=3.0)
    assert torch.equal(seen[0], torch.cat([hints, hints]))
