"""Both meanings of the rollback value, as arXiv 2312.10835's algorithm 1 and its published pipeline have it."""

import pytest
import torch
from understudy.samplers import (
    SCHEDULES,
    DiscreteDenoiser,
    FlowDenoiser,
    karras_sigmas,
    last_part,
    noise_variance,
    normal_sigmas,
    part_below,
    sample_euler,
    scaled_linear,
    schedule_fraction,
    sigma_to_variance,
    trailing_sigmas,
    variance_to_sigma,
)

MODEL, FLOW = DiscreteDenoiser(None, scaled_linear()), FlowDenoiser(None)
RANGE = (MODEL.sigma_min, MODEL.sigma_max)


def scheduler(function=trailing_sigmas, model=MODEL):
    return lambda steps: function(model, steps)


@pytest.mark.parametrize("function", [normal_sigmas, trailing_sigmas, karras_sigmas])
def test_a_schedule_fraction_always_executes_exactly_the_asked_steps(function):
    for steps in (1, 2, 4, 12):
        for percent in range(1, 101):
            sigmas = schedule_fraction(scheduler(function), steps, percent / 100)
            assert len(sigmas) == steps + 1 and (sigmas.diff() < 0).all() and sigmas[-1] == 0


@pytest.mark.parametrize(
    ("steps", "fraction", "length", "start"),
    [(4, 0.3, 13, 0.308), (4, 0.4, 10, 0.400), (12, 0.7, 17, 0.706), (10, 0.75, 13, 0.769)],
)
def test_the_hosts_lengths_and_start_fractions(steps, fraction, length, start):
    asked = []

    def sigmas_fn(n):
        asked.append(n)
        return trailing_sigmas(MODEL, n)

    sigmas = schedule_fraction(sigmas_fn, steps, fraction)
    assert asked == [length]
    assert float(MODEL.sigma_to_t(sigmas[0])) / 999 == pytest.approx(start, abs=5e-4)


@pytest.mark.parametrize(
    ("variance", "sigma", "t"),
    [(0.3, 0.65, 234), (0.4, 0.82, 294), (0.5, 1.00, 354), (0.7, 1.53, 483), (0.75, 1.73, 520)],
)
def test_noise_variance_starts_where_algorithm_1_does(variance, sigma, t):
    sigmas = noise_variance(scheduler(), 4, variance, *RANGE)
    assert sigmas[0] == pytest.approx((variance / (1 - variance)) ** 0.5, rel=1e-6)
    assert sigmas[0] == pytest.approx(sigma, abs=0.006)
    assert float(MODEL.sigma_to_t(sigmas[0])) == pytest.approx(t, abs=1)


@pytest.mark.parametrize(
    ("fraction", "t", "variance", "sigma"),
    [
        (0.3, 299, 0.41, 0.83),
        (0.4, 399, 0.57, 1.16),
        (0.5, 499, 0.72, 1.61),
        (0.7, 699, 0.92, 3.32),
        (0.75, 749, 0.94, 4.08),
    ],
)
def test_what_a_schedule_fraction_means_in_noise(fraction, t, variance, sigma):
    """With steps for a schedule of 1000, so that it starts at the fraction itself."""
    start = float(schedule_fraction(scheduler(), round(1000 * fraction), fraction)[0])
    assert float(MODEL.sigma_to_t(start)) == pytest.approx(t, abs=1)
    assert start == pytest.approx(sigma, abs=0.015)
    assert start**2 / (1 + start**2) == pytest.approx(variance, abs=0.006)


def test_the_noised_image_is_algorithm_1s():
    """Line 5, sqrt(1 - s) O + sqrt(s) Z, up to the scale of k-diffusion's x."""
    image, noise = torch.randn(2, 3), torch.randn(2, 3)
    s = 0.4
    sigma = noise_variance(scheduler(), 4, s, *RANGE)[0]
    x = MODEL.noise_scaling(sigma, noise, image)
    torch.testing.assert_close(x * (1 + sigma**2).rsqrt(), (1 - s) ** 0.5 * image + s**0.5 * noise)


@pytest.mark.parametrize("s", [0.1, 0.3, 0.5, 0.9])
def test_flow_starts_at_the_same_ratio_of_signal_to_noise(s):
    t = float(noise_variance(scheduler(model=FLOW), 4, s, FLOW.sigma_min, FLOW.sigma_max, flow=True)[0])
    assert t == pytest.approx(1 / (1 + ((1 - s) / s) ** 0.5), rel=1e-6)
    assert t / (1 - t) == pytest.approx(variance_to_sigma(s))


@pytest.mark.parametrize("function", [normal_sigmas, trailing_sigmas, karras_sigmas])
@pytest.mark.parametrize("model", [MODEL, FLOW], ids=["discrete", "flow"])
def test_noise_variance_is_clipped_to_the_models_range(function, model):
    for steps in (1, 4, 30):
        for variance, start in ((1e-9, model.sigma_min), (1 - 1e-15, model.sigma_max)):
            sigmas = noise_variance(
                scheduler(function, model), steps, variance, model.sigma_min, model.sigma_max, flow=model is FLOW
            )
            assert sigmas[0] == pytest.approx(start, rel=1e-6)
            assert len(sigmas) == steps + 1 and (sigmas.diff() < 0).all() and sigmas[-1] == 0
    whole = noise_variance(
        scheduler(function, model), 4, 1 - 1e-15, model.sigma_min, model.sigma_max, flow=model is FLOW
    )
    torch.testing.assert_close(whole, function(model, 4))


@pytest.mark.parametrize("function", [normal_sigmas, trailing_sigmas, karras_sigmas])
@pytest.mark.parametrize("steps", [1, 4, 12])
def test_the_remaining_steps_follow_the_schedulers_curve(function, steps):
    """Both meanings agree where they start at the same sigma, and between two such starts the sigmas lie between."""
    for fraction in (0.31, 0.5, 0.72):
        by_fraction = schedule_fraction(scheduler(function), steps, fraction)
        start = float(by_fraction[0])
        by_variance = noise_variance(scheduler(function), steps, start**2 / (1 + start**2), *RANGE)
        torch.testing.assert_close(by_variance, by_fraction, rtol=1e-3, atol=1e-5)

    above = schedule_fraction(scheduler(function), steps, 0.5)
    below = function(MODEL, int(steps / 0.5) + 1)[-(steps + 1) :]
    start = float(above[0] + below[0]) / 2
    between = noise_variance(scheduler(function), steps, start**2 / (1 + start**2), *RANGE)
    torch.testing.assert_close(between, (above + below) / 2, rtol=1e-3, atol=1e-5)


def test_a_scheduler_that_starts_below_the_noise_level_is_stretched():
    leading = lambda steps: SCHEDULES["consistency"](MODEL, steps, spacing="leading")  # noqa: E731
    sigmas = noise_variance(leading, 4, 1 - 1e-9, *RANGE)
    assert sigmas[0] == pytest.approx(MODEL.sigma_max)
    torch.testing.assert_close(sigmas / sigmas[0], leading(4) / leading(4)[0])


def test_a_scheduler_that_repeats_itself_when_long_still_gives_falling_steps():
    def simple(steps):  # the host's `simple`, for a model of 100 sigmas
        return torch.tensor([float(MODEL.sigmas[::10][-(1 + int(i * 100 / steps))]) for i in range(steps)] + [0.0])

    for variance in (0.001, 0.01, 0.3):
        sigmas = noise_variance(simple, 30, variance, *RANGE)
        assert len(sigmas) == 31 and (sigmas.diff() < 0).all()
        assert sigmas[0] == pytest.approx(max(variance_to_sigma(variance), MODEL.sigma_min), rel=1e-6)


def test_refining_a_data_sample_keeps_it_a_data_sample(gaussian):
    """Noise put on and taken off by the exact teacher leaves the distribution as it was, whichever way it is said."""
    image = gaussian.mean + gaussian.std * torch.randn(1, 100_000, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(1, 100_000, generator=torch.Generator().manual_seed(1))
    for sigmas in (noise_variance(scheduler(), 40, 0.5, *RANGE), schedule_fraction(scheduler(), 40, 0.5)):
        refined = sample_euler(gaussian.denoised, MODEL.noise_scaling(sigmas[0], noise, image), sigmas)
        assert refined.mean() == pytest.approx(gaussian.mean, abs=0.01)
        assert refined.std() == pytest.approx(gaussian.std, abs=0.03)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 1.1, float("nan")])
def test_a_noise_variance_outside_zero_to_one_is_refused(value):
    with pytest.raises(ValueError, match="the noise variance is"):
        noise_variance(scheduler(), 4, value, *RANGE)


@pytest.mark.parametrize("value", [0.0, -0.1, 1.1, float("nan")])
def test_a_schedule_fraction_outside_zero_to_one_is_refused(value):
    with pytest.raises(ValueError, match="the schedule fraction is"):
        schedule_fraction(scheduler(), 4, value)


def test_a_scheduler_without_enough_steps_is_refused():
    with pytest.raises(ValueError, match="no 4 falling steps"):
        noise_variance(lambda steps: torch.tensor([1.0, 0.0]), 4, 0.5, *RANGE)
    with pytest.raises(ValueError, match="0 steps"):
        noise_variance(scheduler(), 0, 0.5, *RANGE)


@pytest.mark.parametrize("flow", [False, True])
def test_sigmas_and_shares_of_the_variance_are_each_other_s_inverse(flow):
    for share in (0.05, 0.41, 0.69, 0.97):
        assert sigma_to_variance(variance_to_sigma(share, flow), flow) == pytest.approx(share)
    assert sigma_to_variance(0.6, True) == pytest.approx(0.36 / (0.36 + 0.16))
    for wrong in (0.0, 1.0) if flow else (0.0,):
        with pytest.raises(ValueError, match=f"sigma is {wrong}"):
            sigma_to_variance(wrong, flow)


def test_the_last_part_of_given_sigmas():
    sigmas = torch.tensor([1.0, 0.9, 0.5, 0.2, 0.0])
    for fraction, steps in ((1.0, 4), (0.75, 3), (0.6, 2), (0.25, 1), (0.01, 1)):
        assert torch.equal(last_part(sigmas, fraction), sigmas[-steps - 1 :])
    for fraction in (0, 1.1):
        with pytest.raises(ValueError, match=f"fraction is {fraction}"):
            last_part(sigmas, fraction)


@pytest.mark.parametrize("flow", [False, True])
def test_the_part_of_given_sigmas_below_a_noise_variance(flow):
    sigmas = torch.tensor([0.95, 0.7, 0.4, 0.2, 0.0])
    for share in (0.05, 0.2, 0.3):
        cut = part_below(sigmas, share, flow)
        assert abs(sigma_to_variance(float(cut[0]), flow) - share) < 1e-6
        assert torch.equal(cut[1:], sigmas[sigmas < cut[0]]) and (cut.diff() < 0).all()
    assert part_below(sigmas, 0.999, flow) is sigmas  # it begins below that
    near = sigma_to_variance(0.4 * 1.0002, flow)
    assert part_below(sigmas, near, flow).tolist() == pytest.approx([0.4, 0.2, 0], abs=1e-3)  # no step of nothing
    with pytest.raises(ValueError, match="noise variance is 1"):
        part_below(sigmas, 1, flow)
