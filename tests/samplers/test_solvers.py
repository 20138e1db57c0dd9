import pytest
import torch
from understudy.samplers import (
    DiscreteDenoiser,
    FlowDenoiser,
    karras_sigmas,
    sample_dpmpp_2m,
    sample_euler,
    scaled_linear,
    trailing_sigmas,
)


def errors(sampler, gaussian, steps):
    """Distance from the exact ODE, in float64, down a Karras schedule from 10 to 0.1 for each number of steps."""
    x = torch.linspace(-9, 11, 5, dtype=torch.float64)[None]
    exact = gaussian.ode(x, 10.0, 0.1)
    result = []
    for n in steps:
        sigmas = torch.linspace(10 ** (1 / 7), 0.1 ** (1 / 7), n + 1, dtype=torch.float64) ** 7
        result.append(float((sampler(gaussian.denoised, x, sigmas) - exact).abs().max()))
    return result


@pytest.mark.parametrize(("sampler", "order"), [(sample_euler, 1), (sample_dpmpp_2m, 2)])
def test_the_error_falls_with_the_solvers_order(sampler, order, gaussian):
    coarse, fine, finest = errors(sampler, gaussian, [40, 80, 160])
    assert coarse > fine > finest
    assert fine / finest == pytest.approx(2**order, rel=0.15)


def test_the_second_order_solver_is_the_better_one(gaussian):
    euler, second = errors(sample_euler, gaussian, [40])[0], errors(sample_dpmpp_2m, gaussian, [40])[0]
    assert second < euler / 5 and second < 0.01


def test_the_second_order_step_by_hand():
    """x0 is extrapolated in log sigma to the middle of the step, which is half as long as the one before."""
    answers = iter([torch.tensor([[1.0]]), torch.tensor([[2.0]])])
    x = sample_dpmpp_2m(lambda x, sigma: next(answers), torch.tensor([[9.0]]), torch.tensor([8.0, 2.0, 1.0]))
    first = 9.0 / 4 + 1.0 * 3 / 4
    target = 2.0 + (2.0 - 1.0) * 0.5 / 2  # half a step on, where the last was two such steps long
    assert float(x) == pytest.approx(first / 2 + target / 2)


@pytest.mark.parametrize("sampler", [sample_euler, sample_dpmpp_2m])
def test_down_to_zero_on_a_discrete_network(sampler, gaussian):
    """The whole way that an SD-like model goes: eps network, whole timesteps, last step to 0."""
    inner = DiscreteDenoiser(None, scaled_linear())

    def network(x, t):
        sigma = inner.t_to_sigma(t)[:, None]
        x = x * (1 + sigma**2).sqrt()
        return (x - gaussian.denoised(x, sigma)) / sigma

    model = DiscreteDenoiser(network, scaled_linear(), "eps", quantize=False)
    x = torch.linspace(-20, 20, 5)[None]
    far, near = (
        float((sampler(model, x, karras_sigmas(model, n)) - gaussian.ode(x, model.sigma_max)).abs().max())
        for n in (8, 64)
    )
    assert near < far and near < 0.03


@pytest.mark.parametrize("sampler", [sample_euler, sample_dpmpp_2m])
def test_flow_models(sampler, gaussian):
    """The flow ODE from pure noise z ends at mean + std z."""
    model = FlowDenoiser(lambda x, t: gaussian.velocity(x, t / 1000))
    noise = torch.linspace(-2, 2, 5)[None]
    exact = gaussian.mean + gaussian.std * noise
    far, near = (float((sampler(model, noise, trailing_sigmas(model, n)) - exact).abs().max()) for n in (8, 64))
    assert near < far / 2 and near < 0.03
