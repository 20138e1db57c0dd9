import pytest
import torch
from understudy.samplers import (
    DiscreteDenoiser,
    FlowDenoiser,
    Guided,
    PerImageNoise,
    consistency_sigmas,
    initial_noise,
    sample_consistency,
    sample_euler,
    scaled_linear,
    trailing_sigmas,
)

SHAPE = (4, 8, 8)
SIGMAS = torch.tensor([10.0, 3.0, 1.0, 0.0])


def test_against_the_result_by_hand(gaussian):
    """With the exact consistency function f(x, s) = m + (x - m) d / sqrt(d^2 + s^2) and the draws z1 and z2."""
    x = initial_noise(0, range(3), SHAPE) * 10
    noise = PerImageNoise(1, range(3), SHAPE)
    result = sample_consistency(gaussian.consistency, x, SIGMAS, noise_sampler=noise)

    m, d = 0.7, 0.5
    again = PerImageNoise(1, range(3), SHAPE)
    z1, z2 = again(), again()
    first = m + (x - m) * d / (d**2 + 100) ** 0.5
    second = m + (first + 3 * z1 - m) * d / (d**2 + 9) ** 0.5
    third = m + (second + 1 * z2 - m) * d / (d**2 + 1) ** 0.5
    torch.testing.assert_close(result, third)


def test_noise_is_drawn_for_the_steps_between_and_none_for_the_last(gaussian):
    drawn = []

    def noise_sampler(sigma, sigma_next):
        drawn.append((float(sigma), float(sigma_next)))
        return torch.zeros(1, 3)

    sample_consistency(gaussian.consistency, torch.ones(1, 3), SIGMAS, noise_sampler=noise_sampler)
    assert drawn == [(10.0, 3.0), (3.0, 1.0)]


def test_it_samples_the_data(gaussian):
    x = torch.randn(1, 100_000, generator=torch.Generator().manual_seed(0)) * 10 + gaussian.mean
    result = sample_consistency(gaussian.consistency, x, SIGMAS, {"seed": 5})
    assert result.mean() == pytest.approx(gaussian.mean, abs=0.01)
    assert result.std() == pytest.approx(gaussian.std, abs=0.01)


@pytest.mark.parametrize("stochastic", [True, False])
def test_an_image_gets_the_same_alone_in_the_batch_and_in_any_subset_and_order(gaussian, stochastic):
    def sample(indices):
        noise = PerImageNoise(1, indices, SHAPE)
        x = initial_noise(0, indices, SHAPE) * 10
        return sample_consistency(gaussian.denoised, x, SIGMAS, noise_sampler=noise, stochastic=stochastic)

    full = sample(range(5))
    assert torch.equal(sample([3]), full[[3]])
    assert torch.equal(sample([4, 0, 2]), full[[4, 0, 2]])


def test_deterministic_is_euler_and_takes_no_noise(gaussian):
    def no_noise(sigma, sigma_next):
        raise AssertionError("the deterministic sampler drew noise")

    x = initial_noise(0, range(2), SHAPE) * 10
    result = sample_consistency(gaussian.denoised, x, SIGMAS, noise_sampler=no_noise, stochastic=False)
    torch.testing.assert_close(result, sample_euler(gaussian.denoised, x, SIGMAS))


def test_deterministic_flow_is_euler_on_the_flow(gaussian):
    model = FlowDenoiser(lambda x, t: gaussian.velocity(x, t / 1000))
    x, sigmas = initial_noise(0, range(2), SHAPE), trailing_sigmas(model, 6)
    result = sample_consistency(model, x, sigmas, stochastic=False, noise_scaling=model.noise_scaling)
    torch.testing.assert_close(result, sample_euler(model, x, sigmas), atol=2e-5, rtol=1e-4)


def test_a_flow_model_is_noised_its_own_way():
    model = FlowDenoiser(lambda x, t: torch.zeros_like(x))  # x0 = x
    x, sigmas = torch.full([1, 3], 2.0), torch.tensor([1.0, 0.25, 0.0])
    ones = sample_consistency(model, x, sigmas, noise_sampler=lambda *_: torch.ones(1, 3))
    torch.testing.assert_close(ones, torch.full([1, 3], 0.75 * 2.0 + 0.25))
    given = sample_consistency(
        model, x, sigmas, noise_sampler=lambda *_: torch.ones(1, 3), noise_scaling=lambda s, n, x0: n
    )
    torch.testing.assert_close(given, torch.ones(1, 3))


def test_without_a_noise_sampler_the_seed_decides(gaussian):
    x = initial_noise(0, range(2), SHAPE) * 10
    sample = lambda seed: sample_consistency(gaussian.denoised, x, SIGMAS, {"seed": seed})  # noqa: E731
    assert torch.equal(sample(1), sample(1))
    assert not torch.equal(sample(1), sample(2))
    by_hand = sample_consistency(gaussian.denoised, x, SIGMAS, noise_sampler=PerImageNoise(1, range(2), SHAPE))
    assert torch.equal(sample(1), by_hand)

    torch.manual_seed(4)
    unseeded = sample_consistency(gaussian.denoised, x, SIGMAS)
    assert not torch.equal(unseeded, sample_consistency(gaussian.denoised, x, SIGMAS))
    torch.manual_seed(4)
    assert torch.equal(unseeded, sample_consistency(gaussian.denoised, x, SIGMAS))


def test_with_guidance():
    """A student that runs with guidance, as the published consistency-distilled SD 1.5 does."""
    network = lambda x, t, to: to.expand_as(x)  # noqa: E731
    model = Guided(DiscreteDenoiser(network, scaled_linear(), "x0"), 8.0)
    branches = {"cond": {"to": torch.ones(2, 1, 1, 1)}, "uncond": {"to": torch.zeros(2, 1, 1, 1)}}
    sigmas = consistency_sigmas(model, 4)
    noise = PerImageNoise(0, [0, 1], SHAPE)
    result = sample_consistency(model, torch.zeros(2, *SHAPE), sigmas, branches, noise_sampler=noise)
    torch.testing.assert_close(result, torch.full([2, *SHAPE], 8.0))
