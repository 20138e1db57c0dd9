import pickle

import pytest
import torch
from understudy.samplers import Counted, DiscreteDenoiser, FlowDenoiser, Guided, sample_euler, scaled_linear

T = torch.tensor([0.0, 1.0, 234.0, 499.0, 999.0])


def network(prediction, gaussian):
    """One and the same underlying prediction, the exact denoiser of Gaussian data, in the asked form."""
    ab = scaled_linear().float()

    def call(x, t):
        ab_t = ab[t.long()].reshape(-1, 1)
        sigma = ((1 - ab_t) / ab_t).sqrt()
        x0 = gaussian.denoised(x / ab_t.sqrt(), sigma.flatten())
        eps = (x - ab_t.sqrt() * x0) / (1 - ab_t).sqrt()
        return {"x0": x0, "eps": eps, "v": ab_t.sqrt() * eps - (1 - ab_t).sqrt() * x0}[prediction]

    return call


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_discrete_predictions_agree(prediction, gaussian):
    model = DiscreteDenoiser(network(prediction, gaussian), scaled_linear(), prediction)
    sigma = model.t_to_sigma(T)
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0)) * (1 + sigma[:, None])
    x0 = gaussian.denoised(x, sigma)
    torch.testing.assert_close(model(x, sigma), x0, atol=2e-4, rtol=1e-4)

    at = model.prediction_at(x, sigma)
    scale = (1 + sigma[:, None] ** 2).rsqrt()
    eps = (x - x0) / sigma[:, None]
    torch.testing.assert_close(at.x0, x0, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(at.eps, eps, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(at.v, scale * eps - sigma[:, None] * scale * x0, atol=2e-3, rtol=1e-3)


def test_discrete_sigmas_are_stable_diffusions():
    model = DiscreteDenoiser(None, scaled_linear())
    assert len(model.sigmas) == 1000 and (model.sigmas.diff() > 0).all()
    assert model.sigma_min == pytest.approx(0.029168, abs=1e-5)
    assert model.sigma_max == pytest.approx(14.614642, abs=1e-4)


def test_discrete_time_and_sigma_round_trip():
    model = DiscreteDenoiser(None, scaled_linear())
    t = torch.linspace(0, 999, 777)
    torch.testing.assert_close(model.sigma_to_t(model.t_to_sigma(t)), t, atol=2e-3, rtol=0)
    torch.testing.assert_close(model.t_to_sigma(T), model.sigmas[T.long()])
    assert model.sigma_to_t(1e-6) == 0 and model.sigma_to_t(1e6) == 999
    assert model.t_to_sigma(5).shape == ()


def test_the_network_sees_whole_timesteps_and_unit_variance():
    seen = []

    def network(x, t):
        seen.append((x, t))
        return x

    model = DiscreteDenoiser(network, scaled_linear())
    sigma = model.t_to_sigma(torch.tensor([234.4, 499.6]))
    model(torch.ones(2, 3), sigma)
    x, t = seen.pop()
    assert t.tolist() == [234, 500]
    torch.testing.assert_close(x[:, 0], (1 + sigma**2).rsqrt())
    DiscreteDenoiser(network, scaled_linear(), quantize=False)(torch.ones(2, 3), sigma)
    torch.testing.assert_close(seen.pop()[1], torch.tensor([234.4, 499.6]), atol=1e-3, rtol=0)


def test_half_precision_networks_leave_x_in_its_own():
    model = DiscreteDenoiser(lambda x, t: x.half(), scaled_linear(), "v")
    assert model(torch.ones(1, 3), torch.ones(1)).dtype == torch.float32


def test_noise_scaling():
    x0, noise = torch.full([2, 3], 5.0), torch.ones(2, 3)
    discrete, flow = DiscreteDenoiser(None, scaled_linear()), FlowDenoiser(None)
    sigma = torch.tensor([0.25, 0.75])
    torch.testing.assert_close(discrete.noise_scaling(sigma, noise, x0)[:, 0], torch.tensor([5.25, 5.75]))
    torch.testing.assert_close(flow.noise_scaling(sigma, noise, x0)[:, 0], torch.tensor([4.0, 2.0]))
    torch.testing.assert_close(discrete.noise_scaling(3.0, noise, 0 * x0, max_denoise=True), noise * 10**0.5)


def test_flow_denoiser(gaussian):
    model = FlowDenoiser(lambda x, t: gaussian.velocity(x, t / 1000))
    x0 = gaussian.mean + gaussian.std * torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(1))
    x = model.noise_scaling(0.6, noise, x0)
    at = model.prediction_at(x, torch.tensor(0.6).expand(len(x)))
    torch.testing.assert_close(model.noise_scaling(0.6, at.eps, at.x0), x)
    torch.testing.assert_close(at.v, at.eps - at.x0)
    # The best prediction leaves an error that x does not explain.
    for error in (at.x0 - x0, at.eps - noise, at.v - (noise - x0)):
        assert abs(error.mean()) < 0.01 and abs((error * x).mean()) < 0.01
    # x0 given x is the discrete model's, at the same ratio of signal to noise.
    torch.testing.assert_close(at.x0, gaussian.denoised(x / 0.4, 0.6 / 0.4))


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_time_and_sigma_round_trip(shift):
    model = FlowDenoiser(None, shift=shift)
    t = torch.linspace(1, 1000, 333)
    torch.testing.assert_close(model.sigma_to_t(model.t_to_sigma(t)), t, rtol=1e-5, atol=1e-3)
    assert model.sigma_max == 1.0
    assert model.sigma_min == pytest.approx(shift * 0.001 / (1 + (shift - 1) * 0.001))


def echo(x, sigma, to):
    return to.expand_as(x) if to.shape[0] == 1 else to.reshape(-1, *[1] * (x.ndim - 1)).expand_as(x)


def test_guidance_is_uncond_plus_cfg_times_the_difference_in_one_batch():
    calls = []

    def model(x, sigma, to):
        calls.append(x.shape[0])
        return to[:, None] + 0 * x

    cond, uncond = {"to": torch.tensor([2.0, 3.0])}, {"to": torch.tensor([1.0, 5.0])}
    result = Guided(model, 7.0)(torch.zeros(2, 3), torch.ones(2), cond=cond, uncond=uncond)
    assert calls == [4]
    assert result[:, 0].tolist() == [1 + 7 * (2 - 1), 5 + 7 * (3 - 5)]


def test_guidance_runs_the_branches_apart_where_their_shapes_differ():
    calls = []

    def model(x, sigma, to):
        calls.append(x.shape[0])
        return to.mean(1, keepdim=True).expand_as(x)

    cond, uncond = {"to": torch.full([2, 154], 3.0)}, {"to": torch.full([2, 77], 1.0)}
    result = Guided(model, 2.0)(torch.zeros(2, 3), torch.ones(2), cond=cond, uncond=uncond)
    assert calls == [2, 2] and (result == 5).all()


def test_guidance_of_one_spends_one_evaluation_and_needs_no_uncond():
    counted = Counted(lambda x, sigma, to: to[:, None] + 0 * x)
    result = Guided(counted, 1.0)(torch.zeros(2, 3), torch.ones(2), cond={"to": torch.tensor([2.0, 3.0])})
    assert counted.per_image(2) == 1 and result[:, 0].tolist() == [2, 3]
    with pytest.raises(ValueError, match="cfg is 3.0, which needs the unconditional branch"):
        Guided(counted, 3.0)(torch.zeros(2, 3), torch.ones(2), cond={"to": torch.zeros(2)})


@pytest.mark.parametrize("tokens", [77, 154])
def test_a_guided_step_counts_two_evaluations_per_image(tokens, gaussian):
    counted = Counted(lambda x, sigma, to: gaussian.denoised(x, sigma))
    branches = {"cond": {"to": torch.zeros(3, tokens)}, "uncond": {"to": torch.zeros(3, 77)}}
    sigmas = torch.tensor([5.0, 2.0, 1.0, 0.5, 0.0])
    sample_euler(Guided(counted, 4.0), torch.zeros(3, 2), sigmas, branches)
    assert counted.evaluations == 3 * 4 * 2 and counted.per_image(3) == 8
    counted.reset()
    sample_euler(Guided(counted, 1.0), torch.zeros(3, 2), sigmas, {"cond": branches["cond"]})
    assert counted.per_image(3) == 4
    with pytest.raises(ValueError, match="12 evaluations cannot be shared equally by 5 images"):
        counted.per_image(5)


def test_counting_goes_inside_guidance():
    with pytest.raises(TypeError, match="inside guidance"):
        Counted(Guided(echo, 2.0))


def test_wrappers_show_the_models_attributes():
    model = Guided(Counted(DiscreteDenoiser(echo, scaled_linear())), 2.0)
    assert model.sigma_max == DiscreteDenoiser(echo, scaled_linear()).sigma_max
    assert model.evaluations == 0
    assert pickle.loads(pickle.dumps(model)).cfg == 2.0
    with pytest.raises(AttributeError):
        _ = model.nothing_of_the_kind


@pytest.mark.parametrize("ab", [torch.tensor([0.9, 0.5, 0.0]), torch.tensor([0.5, 0.9]), torch.ones(2, 2)])
def test_wrong_schedules_are_refused(ab):
    with pytest.raises(ValueError, match="falling sequence within"):
        DiscreteDenoiser(None, ab)


def test_wrong_knobs_are_refused():
    with pytest.raises(ValueError, match="prediction is 'epsilon'; expected one of eps, v, x0"):
        DiscreteDenoiser(None, scaled_linear(), "epsilon")
    with pytest.raises(ValueError, match="shift is 0"):
        FlowDenoiser(None, shift=0)
