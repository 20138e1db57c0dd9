"""Diffusion processes: what went in comes back, and grids, samplers and methods agree."""

import pytest
import torch
from understudy.distill_train.process import Discrete, Flow, solve
from understudy.samplers.denoisers import scaled_linear
from understudy.samplers.schedules import consistency_sigmas

ALPHAS = scaled_linear().float()
PROCESSES = {
    "epsilon": Discrete(ALPHAS),
    "v_prediction": Discrete(ALPHAS, "v_prediction"),
    "sample": Discrete(ALPHAS, "sample"),
    "flow": Flow(shift=3.0),
}


def output(process, x0, eps, t):
    """What a perfect network returns."""
    alpha, sigma = process.level(t, x0.ndim)
    outputs = {"epsilon": eps, "sample": x0, "v_prediction": alpha * eps - sigma * x0, "flow": eps - x0}
    return outputs[process.prediction]


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize("shape", [(3, 4, 5, 5), (3, 2, 1, 5, 5), (3, 6)])
def test_a_perfect_output_gives_the_data_and_the_noise_in_any_rank(process, shape):
    x0, eps = torch.randn(shape), torch.randn(shape)
    t = process.grid(10)[torch.tensor([2, 5, 9])]
    z = process.level(t, x0.ndim).noisy(x0, eps)
    found = process.x0_and_eps(output(process, x0, eps, t), z, t)
    torch.testing.assert_close(found[0], x0, rtol=0, atol=2e-5)
    torch.testing.assert_close(found[1], eps, rtol=0, atol=2e-5)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_the_samplers_denoiser_reads_a_network_as_the_process_does(process):
    x0, eps = torch.randn(3, 4, 5, 5), torch.randn(3, 4, 5, 5)
    t = process.grid(10)[torch.tensor([2, 5, 9])]
    told = []

    def network(x, t):
        told.append(t)
        return output(process, x0, eps, times)

    times = t
    model = process.denoiser(network)
    sigma = process.sigmas(t)
    x = model.noise_scaling(sigma, eps, x0)
    torch.testing.assert_close(model(x, sigma), x0, rtol=0, atol=1e-4)
    torch.testing.assert_close(told[0].float(), process.network_time(t).float(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_the_grid_is_the_samplers(process):
    model = process.denoiser(None)
    for spacing in process.spacings:
        grid = process.grid(50, spacing)
        falling = process.sigmas(grid).flip(0)[:50]
        torch.testing.assert_close(falling, consistency_sigmas(model, 50, 50, spacing)[:-1], rtol=1e-5, atol=0)
    assert process.sigmas(process.grid(4))[0] == 0  # the data
    assert process.sigmas(process.times(torch.tensor([0.0, 1.0]))).tolist() == pytest.approx([0, model.sigma_max])


def test_the_discrete_grids_by_hand():
    assert PROCESSES["epsilon"].grid(50)[:3].tolist() == [-1, 19, 39]
    assert PROCESSES["epsilon"].grid(50, "leading")[[0, 1, -1]].tolist() == [1, 21, 981]
    with pytest.raises(ValueError, match="7 intervals; expected a divisor of 1000"):
        PROCESSES["epsilon"].grid(7)


def test_the_flow_s_times_by_hand():
    # s = 3 u / (1 + 2 u)
    assert Flow(3.0).grid(4).tolist() == pytest.approx([0, 0.5, 0.75, 0.9, 1])
    by_size = Flow(lambda height, width: height * width / 16)
    assert by_size.times(torch.tensor([0.5]), (4, 4)).item() == pytest.approx(0.5)
    assert by_size.times(torch.tensor([0.5]), (4, 12)).item() == pytest.approx(0.75)
    assert Flow().network_time(torch.tensor([0.25])).item() == 250
    with pytest.raises(ValueError, match="shift is -1"):
        Flow(-1)
    with pytest.raises(ValueError, match="a flow's grid is trailing"):
        Flow().grid(4, "leading")


def test_boundaries_are_the_identity_at_the_data_s_end():
    z, x0 = torch.randn(1, 4, 2, 2), torch.randn(1, 4, 2, 2)
    skip, out = PROCESSES["epsilon"].boundary(torch.tensor([0]), 4, 10.0)
    torch.testing.assert_close(skip * z + out * x0, z)
    clean = PROCESSES["epsilon"].with_clean_end()
    assert clean.level(torch.tensor([1, 2])).alpha.flatten().tolist() == [1, pytest.approx(ALPHAS[2].sqrt().item())]
    found, _ = clean.x0_and_eps(x0, z, torch.tensor([1]))
    assert torch.equal(found, z)
    flow, s = PROCESSES["flow"], torch.tensor([0.0])
    skip, out = flow.boundary(s, 4, 10.0)
    assert torch.equal(skip * z + out * flow.with_clean_end().x0_and_eps(x0, z, s)[0], z)
    with pytest.raises(ValueError, match="not x_1 for a network that predicts x0"):
        PROCESSES["sample"].with_clean_end()


def test_noise_alone_at_the_end():
    assert not PROCESSES["epsilon"].zero_snr and Flow().zero_snr
    assert Discrete(torch.tensor([0.9, 1e-8]), "v_prediction").zero_snr


@pytest.mark.parametrize("process", [PROCESSES["v_prediction"], PROCESSES["flow"]], ids=["v", "flow"])
def test_a_perfect_network_is_carried_to_the_data(process):
    x0, eps = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    times = [t.expand(2) for t in process.grid(4).flip(0)]
    z = process.level(times[0]).noisy(x0, eps)
    done = solve(lambda z, t: process.x0_and_eps(output(process, x0, eps, t), z, t), process, z, times)
    torch.testing.assert_close(done, x0, rtol=0, atol=1e-4)


def test_an_unknown_prediction_is_named():
    with pytest.raises(ValueError, match="'noise'; expected one of epsilon, v_prediction, sample"):
        Discrete(ALPHAS, "noise")
