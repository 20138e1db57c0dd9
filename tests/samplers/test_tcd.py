import pytest
import torch
from diffusers import TCDScheduler
from understudy.samplers import (
    DiscreteDenoiser,
    PerImageNoise,
    sample_consistency,
    sample_euler,
    sample_tcd,
    scaled_linear,
)

SHAPE = (4, 8, 8)
NOISE = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
MODEL = DiscreteDenoiser(lambda x, t: torch.tanh(x) * (1 + t[:, None, None, None] / 1000), scaled_linear())
SIGMAS = torch.cat([MODEL.sigmas[[999, 749, 499, 249]], torch.zeros(1)])


def noise(indices=(0, 1), draws=None):
    made = PerImageNoise(5, indices, SHAPE)

    def sampler(sigma, sigma_next):
        drawn = made()
        if draws is not None:
            draws.append(drawn)
        return drawn

    return sampler


def test_steps_by_hand():
    """Down to floor(.7 t_next), and up to t_next in fresh noise."""
    draws = []
    x = start = NOISE * SIGMAS[0]
    for below, i in ((524, 0), (349, 1), (174, 2)):
        x0 = MODEL(x, SIGMAS[i])
        eps = (x - x0) / SIGMAS[i]
        low = MODEL.sigmas[below]
        draws.append(PerImageNoise(5, (0, 1), SHAPE) if not draws else draws[0])
        x = x0 + low * eps + (SIGMAS[i + 1] ** 2 - low**2).sqrt() * draws[0]()
    torch.testing.assert_close(sample_tcd(MODEL, start, SIGMAS, noise_sampler=noise()), MODEL(x, SIGMAS[3]))


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.5, 0.8])
def test_steps_are_those_of_the_authors_scheduler(gamma):
    """Diffusers' TCDScheduler, on the same timesteps with the same noise; its x is ours times sqrt(alpha-bar). It ends
    at timestep 0, whose noise is left in the image; the hosts' schedules end at no noise."""
    scheduler = TCDScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    scheduler.set_timesteps(timesteps=[999, 759, 499, 259])
    sigmas = torch.cat([MODEL.sigmas[[999, 759, 499, 259]], torch.zeros(1)])
    draws, steps = [], []
    sample_tcd(
        MODEL, NOISE * sigmas[0], sigmas, None, lambda step: steps.append(step["x"]), gamma=gamma,
        noise_sampler=noise(draws=draws),
    )  # fmt: skip
    x = NOISE * sigmas[0] / (1 + sigmas[0] ** 2).sqrt()
    for i, t in enumerate(scheduler.timesteps):
        torch.testing.assert_close(x, steps[i] / (1 + sigmas[i] ** 2).sqrt(), rtol=1e-3, atol=1e-4)
        eps = MODEL.network(x, t.expand(2).float())
        with pytest.MonkeyPatch.context() as patch:
            drawn = draws[i] if i < len(draws) else None
            patch.setattr("diffusers.schedulers.scheduling_tcd.randn_tensor", lambda *_, drawn=drawn, **__: drawn)
            x = scheduler.step(eps, t, x, eta=gamma, return_dict=False)[0]
    assert len(steps) == 4 and len(draws) == (3 if gamma else 0)


def test_gamma_0_is_ddim_and_1_is_multistep_consistency_sampling():
    def fails(*_):
        raise AssertionError("noise was drawn")

    x = NOISE * SIGMAS[0]
    uneven = torch.cat([MODEL.t_to_sigma(torch.tensor([999, 749.25, 499.5, 249.75])), torch.zeros(1)])
    for sigmas in (SIGMAS, uneven):
        ddim = sample_tcd(MODEL, x, sigmas, noise_sampler=fails, gamma=0)
        torch.testing.assert_close(ddim, sample_euler(MODEL, x, sigmas))
        consistent = sample_tcd(MODEL, x, sigmas, noise_sampler=noise(), gamma=1)
        torch.testing.assert_close(consistent, sample_consistency(MODEL, x, sigmas, noise_sampler=noise()))
        assert not torch.allclose(ddim, consistent)
        assert not torch.allclose(sample_tcd(MODEL, x, sigmas, noise_sampler=noise()), ddim)


def test_an_image_has_its_own_noise_in_any_batch():
    x = NOISE * SIGMAS[0]
    whole = sample_tcd(MODEL, x, SIGMAS, {}, noise_sampler=noise())
    torch.testing.assert_close(sample_tcd(MODEL, x[1:], SIGMAS, noise_sampler=noise((1,))), whole[1:])
    assert not torch.allclose(sample_tcd(MODEL, x[1:], SIGMAS, noise_sampler=noise((0,))), whole[1:])


def test_the_seed_is_the_samplers_where_no_noise_sampler_is():
    def model(x, sigma, seed=None):
        return MODEL(x, sigma)

    tcd = {"sigma_to_t": MODEL.sigma_to_t, "t_to_sigma": MODEL.t_to_sigma}
    x = NOISE * SIGMAS[0]
    one, again, other = (sample_tcd(model, x, SIGMAS, {"seed": seed}, **tcd) for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_errors():
    with pytest.raises(ValueError, match="gamma is 1.5"):
        sample_tcd(MODEL, NOISE, SIGMAS, gamma=1.5)
    with pytest.raises(ValueError, match="timesteps"):
        sample_tcd(lambda x, sigma: x, NOISE, SIGMAS)
