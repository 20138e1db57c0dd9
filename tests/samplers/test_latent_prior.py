"""A prior of one vector for each image."""

import pytest
import torch
from understudy.samplers.latent_prior import STEPS, alphas_cumprod, draw, image_starts, level
from understudy.samplers.noise import initial_noise


def gaussian(mean, deviation):
    """The exact noise of codes from a normal distribution."""

    def network(z, n):
        alpha, sigma = level(n)
        return sigma * (z - alpha * mean) / (sigma.square() + (alpha * deviation).square())

    return network


def test_the_schedule_is_a_constant_beta_of_0_008():
    kept = alphas_cumprod()
    assert kept[0].item() == pytest.approx(0.992) and kept[-1].item() == pytest.approx(0.992**STEPS)
    assert [float(v) for v in level(torch.tensor([-1]))] == [1.0, 0.0]


def test_ddim_finds_the_distribution_and_clamps_nothing():
    start = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))
    drawn = draw(gaussian(mean=4.0, deviation=0.5), start)
    torch.testing.assert_close(drawn.mean(0), torch.full((3,), 4.0), atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.std(0), torch.full((3,), 0.5), atol=0.1, rtol=0)
    whole = draw(gaussian(4.0, 0.5), start[:4], steps=STEPS)
    torch.testing.assert_close(whole, drawn[:4], atol=0.2, rtol=0)
    far = draw(gaussian(0.0, 1.0), torch.full((1, 1), 3.5))
    assert far.item() > 3  # a start beyond 1 stays beyond it


def test_a_code_follows_from_its_images_own_seed_alone():
    noise = initial_noise(7, range(4), (4, 8, 8))
    together = image_starts(noise, 16)
    for row in range(4):
        alone = image_starts(initial_noise(7, [row], (4, 8, 8)), 16)
        assert torch.equal(alone[0], together[row])
    assert len({tuple(row.tolist()) for row in together}) == 4
    assert not torch.equal(image_starts(initial_noise(8, [0], (4, 8, 8)), 16)[0], together[0])


def test_steps_out_of_range_are_refused():
    for steps in (0, STEPS + 1):
        with pytest.raises(ValueError, match=f"{steps} steps; expected 1 to 1000"):
            draw(gaussian(0.0, 1.0), torch.zeros(1, 2), steps)
