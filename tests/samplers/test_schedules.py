import pytest
import torch
from understudy.samplers import (
    SCHEDULES,
    DiscreteDenoiser,
    FlowDenoiser,
    consistency_sigmas,
    flux2_sigmas,
    given_sigmas,
    grid_sigmas,
    last_consistency_steps,
    last_steps,
    scaled_linear,
    timestep_sigmas,
)

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


@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize("grid", [50, 20])
def test_a_student_starts_no_higher_than_it_is_told_to(spacing, grid):
    """Whatever steps and denoise: as many steps as asked, from the level that so much denoise means, or an error."""
    given, refused = 0, 0
    for steps in range(1, grid + 1):
        for fraction in (0.01, 0.03, 0.078, 0.3, 0.5, 0.77, 0.99, 1.0):
            try:
                sigmas = last_consistency_steps(DISCRETE, steps, fraction, grid, spacing)
            except ValueError:
                refused += 1
                assert steps > fraction * grid
                continue
            given += 1
            assert len(sigmas) == steps + 1 and (sigmas.diff() < 0).all()
            whole = int(steps / fraction)
            assert timesteps(sigmas)[0] <= 999 - (whole - steps) * grid // whole * (1000 // grid)
    assert given and refused


def test_the_last_steps_of_a_students_grid():
    assert timesteps(last_consistency_steps(DISCRETE, 4, 0.5)) == timesteps(consistency_sigmas(DISCRETE, 8))[4:]
    assert timesteps(last_consistency_steps(DISCRETE, 4, 0.078)) == [79, 59, 39, 19]
    assert timesteps(last_consistency_steps(DISCRETE, 4, 0.078, spacing="leading")) == [61, 41, 21, 1]
    assert timesteps(last_consistency_steps(DISCRETE, 1, 0.01)) == [19]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SCHEDULES["normal"](DISCRETE, 0), "0 steps"),
        (lambda: consistency_sigmas(DISCRETE, 51), "51 steps on a consistency grid of 50"),
        (lambda: consistency_sigmas(DISCRETE, 4, grid=33), "grid of 33 does not divide"),
        (lambda: consistency_sigmas(DISCRETE, 4, spacing="linspace"), "'trailing' or 'leading'"),
        (lambda: last_consistency_steps(DISCRETE, 50, 0.5), "50 steps at a denoise of 0.5, .* only 25 are left"),
        (lambda: last_consistency_steps(DISCRETE, 21, 1.0, grid=20), "21 steps on a consistency grid of 20"),
        (lambda: last_steps(None, 4, 0.0), "fraction is 0.0"),
        (lambda: last_steps(None, 4, 1.5), "fraction is 1.5"),
        (lambda: last_steps(None, 0, 0.5), "0 steps"),
    ],
)
def test_wrong_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_grid_of_consistency_timesteps():
    assert DISCRETE.sigma_to_t(grid_sigmas(DISCRETE.sigmas)).round().tolist() == list(range(19, 1000, 20))
    assert DISCRETE.sigma_to_t(grid_sigmas(DISCRETE.sigmas, 4)).round().tolist() == [249, 499, 749, 999]


def test_given_timesteps():
    turbo = tuple(range(999, 0, -100))
    assert timesteps(timestep_sigmas(DISCRETE, turbo, 4)) == [999, 899, 799, 699]
    assert timesteps(timestep_sigmas(DISCRETE, turbo, 2, 0.55)) == [499, 399]
    assert timesteps(timestep_sigmas(DISCRETE, (399,), 1)) == [399]
    with pytest.raises(ValueError, match="4 steps at a denoise of 0.3.*only 3"):
        timestep_sigmas(DISCRETE, turbo, 4, 0.3)
    with pytest.raises(ValueError, match="11 steps"):
        timestep_sigmas(DISCRETE, turbo, 11)


def test_given_sigmas():
    own = (1.0, 0.9, 0.6, 0.2, 0.0)
    assert given_sigmas(own, 4).tolist() == pytest.approx(own)
    assert given_sigmas(own, 4, 0.5).tolist() == pytest.approx(own[2:])
    with pytest.raises(ValueError, match="5 steps.*fixed schedule of 4"):
        given_sigmas(own, 5)
    with pytest.raises(ValueError, match="denoise of 0.1 leaves none"):
        given_sigmas(own, 4, 0.1)
    with pytest.raises(ValueError, match="fraction is 0"):
        given_sigmas(own, 4, 0)


def test_flux_2_s_schedule_depends_on_steps_and_size():
    """Klein's at 1024 x 1024; above 4,300 tokens the steps no longer matter to the shift."""
    assert flux2_sigmas(4, 4096).tolist() == pytest.approx([1, 0.9674, 0.9081, 0.7672, 0], abs=1e-4)
    small, large = (flux2_sigmas(8, tokens)[2::2] - flux2_sigmas(4, tokens)[1:] for tokens in (1024, 9216))
    assert small.abs().max() > 1e-3 and large.abs().max() < 1e-6
    with pytest.raises(ValueError, match="0 steps"):
        flux2_sigmas(0, 4096)
