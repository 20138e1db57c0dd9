import pytest
import torch
from understudy.samplers import SCHEDULES, DiscreteDenoiser, FlowDenoiser, consistency_sigmas, last_steps, scaled_linear

DISCRETE, FLOW = DiscreteDenoiser(None, scaled_linear()), FlowDenoiser(None)


def timesteps(sigmas):
    assert sigmas[-1] == 0
    return DISCRETE.sigma_to_t(sigmas[:-1]).round().long().tolist()


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("model", [DISCRETE, FLOW], ids=["discrete", "flow"])
@pytest.mark.parametrize("steps", [1, 2, 7, 30])
def test_schedules_fall_from_the_largest_sigma_to_zero_in_the_asked_steps(name, model, steps):
    sigmas = SCHEDULES[name](model, steps)
    assert sigmas.shape == (steps + 1,) and sigmas.dtype == torch.float32
    assert sigmas[0] == pytest.approx(model.sigma_max, rel=1e-5) and sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()


def test_spacing():
    assert timesteps(SCHEDULES["normal"](DISCRETE, 4)) == [999, 666, 333, 0]
    assert timesteps(SCHEDULES["trailing"](DISCRETE, 4)) == [999, 749, 500, 250]
    low, high = DISCRETE.sigma_min, DISCRETE.sigma_max
    middle = ((low ** (1 / 7) + high ** (1 / 7)) / 2) ** 7
    assert SCHEDULES["karras"](DISCRETE, 3).tolist() == pytest.approx([high, middle, low, 0], rel=1e-4)


def test_consistency_timesteps():
    """Methods 1.6 (leading), and the latent consistency models' own (trailing)."""
    assert timesteps(consistency_sigmas(DISCRETE, 5, spacing="leading")) == [981, 781, 581, 381, 181]
    assert timesteps(consistency_sigmas(DISCRETE, 50, spacing="leading")) == list(range(981, 0, -20))
    assert timesteps(consistency_sigmas(DISCRETE, 4)) == [999, 759, 499, 259]
    assert timesteps(consistency_sigmas(DISCRETE, 8)) == [999, 879, 759, 639, 499, 379, 259, 139]


def test_the_hosts_denoise_rule():
    asked = []

    def sigmas_fn(steps):
        asked.append(steps)
        return torch.linspace(1, 0, steps + 1)

    assert last_steps(sigmas_fn, 4, 0.4).tolist() == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.0])
    assert len(last_steps(sigmas_fn, 4, 1.0)) == len(last_steps(sigmas_fn, 4, 0.99995)) == 5
    assert asked == [10, 4, 4]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SCHEDULES["normal"](DISCRETE, 0), "0 steps"),
        (lambda: consistency_sigmas(DISCRETE, 51), "51 steps on a consistency grid of 50"),
        (lambda: consistency_sigmas(DISCRETE, 4, grid=33), "grid of 33 does not divide"),
        (lambda: consistency_sigmas(DISCRETE, 4, spacing="linspace"), "'trailing' or 'leading'"),
        (lambda: last_steps(None, 4, 0.0), "fraction is 0.0"),
        (lambda: last_steps(None, 4, 1.5), "fraction is 1.5"),
        (lambda: last_steps(None, 0, 0.5), "0 steps"),
    ],
)
def test_wrong_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
