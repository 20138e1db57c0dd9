"""The predictor's networks, its file, and a denoiser under it."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from understudy.demo_family import family, sampling
from understudy.files import CheckpointError
from understudy.predictor import Features, Layout, Predicted, Predictor, read_predictor, switched_off_at
from understudy.predictor.denoiser import feature_channels, reading_features
from understudy.predictor.file import described
from understudy.samplers.denoisers import Guided
from understudy.samplers.schedules import consistency_sigmas

LAYOUT = Layout(4, 16, (8, 16), 6, (8,), "gradient")
TEXT = "a small red star on a gray background"


def random(layout, seed=0):
    """A predictor with every weight moved, its prior included."""
    torch.manual_seed(seed)
    predictor = Predictor(layout).eval().requires_grad_(False)
    for parameter in predictor.parameters():
        parameter += 0.05 * torch.randn(parameter.shape)
    return predictor


def features(seed=1):
    g = torch.Generator().manual_seed(seed)
    draw = [torch.randn(2, c, side, side, generator=g) for c, side in ((16, 4), (8, 8), (16, 4))]
    return Features(draw[0], draw[1:])


def test_it_moves_nothing_as_made_and_something_when_trained():
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([999, 3])
    assert torch.equal(Predictor(LAYOUT)(x, features(), t), torch.zeros_like(x))
    moved = random(LAYOUT)
    out = moved(x, features(), t)
    assert out.shape == x.shape and out.std() > 1e-3
    for other in (moved(x + 1, features(), t), moved(x, features(), t - 1), moved(x, features(seed=2), t)):
        assert not torch.allclose(out, other, atol=1e-6)


def test_each_branch_of_guidance_has_its_images_z():
    predictor, x, seen = random(LAYOUT), torch.randn(2, 4, 8, 8), features()
    twice = Features(seen.middle.repeat(2, 1, 1, 1), [skip.repeat(2, 1, 1, 1) for skip in seen.skips])
    t = torch.tensor([5, 7])
    torch.testing.assert_close(predictor(x, twice, t.repeat(2)), predictor(x, seen, t).repeat(2, 1, 1, 1))
    with pytest.raises(ValueError, match="3 rows for 2 images"):
        predictor(x, seen, torch.tensor([1, 2, 3]))


@pytest.mark.parametrize("side", [8, 12, 16])
def test_pictures_of_any_size_have_a_z(side):
    assert random(LAYOUT).meaning(torch.randn(3, 4, side, 2 * side)).shape == (3, 6)


def test_the_demo_familys_file_is_small(tmp_path):
    middle, skips = feature_channels(family.load_network(family.FOLDER / "student.safetensors"))
    predictor = Predictor(Layout.of(8, middle, skips, 8, "gradient"))
    predictor.add_prior(512)
    weights = {key: value.half() for key, value in predictor.state_dict().items()}
    save_file(weights, tmp_path / "demo.safetensors", described(predictor.layout))
    assert (tmp_path / "demo.safetensors").stat().st_size < 2_000_000
    assert read_predictor(tmp_path / "demo.safetensors").layout == predictor.layout


def test_sd_and_sdxl_have_the_published_encoder():
    assert Layout.of(4, 1280, [320], 64, "gradient").encoder == (64, 128, 256, 256)
    assert Layout.of(4, 1280, [320], 128, "gradient").encoder == (64, 128, 256, 256, 256)


def test_the_first_part_of_the_schedule_has_it_and_one_step_always():
    sigmas = torch.tensor([10.0, 5.0, 2.0, 1.0, 0.0])
    assert [switched_off_at(sigmas, until) for until in (1.0, 0.7, 0.5, 0.25, 0.01)] == [0.0, 1.0, 2.0, 5.0, 5.0]
    assert switched_off_at(torch.tensor([14.6, 0.0]), 0.01) == 0
    for until in (0.0, 1.5):
        with pytest.raises(ValueError, match="expected above 0 and at most 1"):
            switched_off_at(sigmas, until)


@torch.no_grad()
def test_a_denoiser_is_moved_by_hand_computed_amounts_while_it_acts():
    network = family.load("student").network
    model = sampling.denoiser(network)
    predictor = random(Layout.of(8, *feature_channels(network), 8, "gradient"))
    x, z = 14 * torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(4)), torch.randn(2, 32)
    sigmas, given = consistency_sigmas(model, 4), {"tokens": family.tokens_of([TEXT] * 2)}
    under = Predicted(model, predictor, network, z, sigmas, until=0.7)
    for step, sigma in enumerate(sigmas[:-1]):
        plain, moved = model(x, sigma, **given), under(x, sigma, **given)
        if step == 3:
            assert torch.equal(plain, moved)
            continue
        t = model.sigma_to_t(sigma).round()
        with reading_features(network) as seen:
            network(x * (1 + sigma**2).rsqrt(), t.expand(2), given["tokens"])
        kept = 1 / (1 + sigma**2)
        expected = (1 - kept) / kept.sqrt() * predictor.branch(seen.features, t.expand(2), z)
        torch.testing.assert_close(moved - plain, expected, rtol=1e-3, atol=1e-3)
        assert expected.abs().max() > 1e-2
    guided = Guided(under, 3.0)(x, sigmas[0], given, {"tokens": torch.zeros_like(given["tokens"])})
    branches = [under(x, sigmas[0], tokens=tokens) for tokens in (torch.zeros_like(given["tokens"]), given["tokens"])]
    torch.testing.assert_close(guided, branches[0] + 3 * (branches[1] - branches[0]), rtol=1e-3, atol=1e-3)
    predictor.branch.out.weight.zero_()
    predictor.branch.out.bias.zero_()
    assert torch.equal(under(x, sigmas[0], **given), model(x, sigmas[0], **given))


def test_an_image_has_the_same_z_alone_and_in_any_batch():
    predictor = random(Layout(4, 16, (8, 16), 6, (8,), text=5))
    noise, text = torch.randn(3, 4, 8, 8), torch.randn(3, 5)
    together = predictor.drawn(noise, text)
    for row in range(3):
        alone = predictor.drawn(noise[row : row + 1], text[row : row + 1])
        torch.testing.assert_close(alone[0], together[row], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(predictor.drawn(noise + 1, text), together, atol=1e-2)
    torch.testing.assert_close(predictor.drawn(noise, text[:1])[0], together[0], rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="a pooled text of 5 numbers; there is one of 7"):
        predictor.drawn(noise, torch.randn(3, 7))
    with pytest.raises(ValueError, match="a pooled text of 5 numbers; there is none"):
        predictor.drawn(noise, None)
    with pytest.raises(ValueError, match="no prior: train one with sferd-prior, or give a picture"):
        random(LAYOUT).drawn(noise, text)


def test_files_that_are_none_or_not_whole_are_named(tmp_path):
    predictor, path = random(LAYOUT), tmp_path / "p.safetensors"
    save_file(predictor.state_dict(), path)
    with pytest.raises(CheckpointError, match="p.safetensors is no gradient predictor"):
        read_predictor(path)
    save_file(predictor.state_dict(), path, described(LAYOUT) | {"layout": "{}"})
    with pytest.raises(CheckpointError, match="do not say how it is built"):
        read_predictor(path)
    weights = {key: value for key, value in predictor.state_dict().items() if key != "branch.out.bias"}
    save_file(weights, path, described(LAYOUT))
    with pytest.raises(CheckpointError, match="its predictor lacks branch.out.bias"):
        read_predictor(path)
    save_file(predictor.state_dict(), path, described(LAYOUT))
    assert all(torch.equal(value, load_file(path)[key]) for key, value in read_predictor(path).state_dict().items())
