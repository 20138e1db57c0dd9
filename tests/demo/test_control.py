"""The demo family's ControlNet: a copy of diffusers' encoder in torch alone."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from understudy.demo_family import family
from understudy.demo_family.control import SceneControl, load_control
from understudy.demo_family.language import parse
from understudy.demo_family.render import DRAWS, outlined, painted
from understudy.demo_family.sampling import denoiser, start
from understudy.files import CheckpointError
from understudy.samplers.schedules import trailing_sigmas
from understudy.samplers.solvers import sample_euler

TEXT = "a small red star left of a large blue circle on a black background"


@pytest.fixture(scope="module")
def network():
    return family.load_network(family.FOLDER / "teacher.safetensors").eval()


def inputs():
    g = torch.Generator().manual_seed(0)
    x, condition = torch.randn(2, 8, 8, 8, generator=g), torch.rand(2, 3, 64, 64, generator=g)
    return x, torch.tensor([900, 30]), family.tokens_of(["a red star", "a large blue circle"]), condition


@torch.no_grad()
def test_its_encoder_computes_what_the_network_s_does(network):
    """But for the pooled text, which the copy leaves out, and is taken from the network here."""
    x, t, tokens, condition = inputs()
    control, seen = SceneControl.of(network), []
    for join in (*control.skip_joins, control.middle_join):
        nn.init.dirac_(join.weight)
    hooks = [block.register_forward_hook(lambda _, __, out: seen.append(out)) for block in network.unet.down_blocks]
    hooks.append(network.unet.class_embedding.register_forward_hook(lambda _, __, out: torch.zeros_like(out)))
    network(x, t, tokens)
    for hook in hooks:
        hook.remove()
    skips, middle = control(x, t, network.text(tokens), condition)
    theirs = [network.unet.conv_in(x), *seen[0][1], *seen[1][1]]
    for ours, wanted in zip(skips, theirs, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(middle, seen[1][0], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_fresh_one_adds_nothing_and_a_changed_one_does(network):
    x, t, tokens, condition = inputs()
    control, alone = SceneControl.of(network), network(x, t, tokens)
    assert torch.equal(network(x, t, tokens, control(x, t, network.text(tokens), condition)), alone)
    nn.init.dirac_(control.middle_join.weight)
    assert not torch.allclose(network(x, t, tokens, control(x, t, network.text(tokens), condition)), alone, atol=1e-2)


def test_its_file_is_small_and_no_other_is_taken_for_one(network, tmp_path):
    control, path = SceneControl.of(network), tmp_path / "control.safetensors"
    family.save(control, path, {"understudy": "demo-control", "config": json.dumps(network.config)})
    assert path.stat().st_size < 2e6
    again = load_control(path)
    for ours, theirs in zip(again.parameters(), control.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.half().float())
    with pytest.raises(CheckpointError, match="is not a ControlNet of the demo family"):
        load_control(family.FOLDER / "student.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="is not a ControlNet of the demo family"):
        load_control(tmp_path / "other.safetensors")


def test_those_that_ship_are_small_and_follow_an_outline(network):
    """The same prompt and noise under two outlines: each picture has the things where its own outline has them."""
    files = [family.FOLDER / name for name in ("control.safetensors", "control_student.safetensors")]
    assert sum(file.stat().st_size for file in files) < 4e6
    scenes, draws = [parse(TEXT)] * 2, torch.rand(2, DRAWS, generator=torch.Generator().manual_seed(2))
    pictures, hints = painted(scenes, draws), outlined(scenes, draws).repeat(1, 3, 1, 1)
    vae = family.load_autoencoder(family.FOLDER / "vae.safetensors")
    tokens, noise = family.tokens_of([TEXT] * 2), torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    for file in files:
        control = load_control(file)
        assert control.config == network.config

        def steered(x, t, tokens, control=control):
            return network(x, t, tokens, control(x, t, network.text(tokens), hints))

        model = denoiser(steered)
        sigmas = trailing_sigmas(model, 4)
        with torch.no_grad():
            x = sample_euler(model, start(model, noise.repeat(2, 1, 1, 1), sigmas), sigmas, {"tokens": tokens})
            made = family.decode(vae, x)
        own, other = ((made - each).abs().mean((1, 2, 3)) for each in (pictures, pictures.flip(0)))
        assert (own < 0.5 * other).all(), (file.name, own, other)
