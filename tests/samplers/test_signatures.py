import inspect

import pytest
import torch
from understudy import samplers

SAMPLERS = {name: getattr(samplers, name) for name in samplers.__all__ if name.startswith("sample_")}


def test_there_are_samplers():
    assert set(SAMPLERS) == {f"sample_{name}" for name in ("consistency", "dpmpp_2m", "euler", "one_step", "tcd")}


# Without timesteps of a model, and without steps beyond the first.
KNOBS = {"sample_tcd": {"gamma": 1.0}}
STEPPING = [name for name in SAMPLERS if name != "sample_one_step"]


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_signature_is_k_diffusions(name):
    parameters = list(inspect.signature(SAMPLERS[name]).parameters.values())
    assert [p.name for p in parameters[:6]] == ["model", "x", "sigmas", "extra_args", "callback", "disable"]
    assert [p.default for p in parameters[:6]] == [inspect.Parameter.empty] * 3 + [None] * 3
    for knob in parameters[6:]:
        assert knob.kind is inspect.Parameter.KEYWORD_ONLY and knob.default is not inspect.Parameter.empty


@pytest.mark.parametrize("name", STEPPING)
def test_every_step_is_one_evaluation_and_one_callback_and_none_is_spent_at_zero(name, gaussian):
    seen, calls = [], []

    def model(x, sigma, word):
        assert sigma.shape == (x.shape[0],) and word == "extra"
        seen.append(float(sigma[0]))
        return gaussian.denoised(x, sigma)

    x = torch.ones(2, 3)
    sigmas = torch.tensor([4.0, 2.0, 1.0, 0.0])
    SAMPLERS[name](model, x, sigmas, {"word": "extra"}, calls.append, True, **KNOBS.get(name, {}))
    assert seen == [4.0, 2.0, 1.0]
    assert [call["i"] for call in calls] == [0, 1, 2]
    for call in calls:
        assert set(call) == {"x", "i", "sigma", "sigma_hat", "denoised"}
        assert call["x"].shape == call["denoised"].shape == x.shape


@pytest.mark.parametrize("name", STEPPING)
def test_a_schedule_that_stops_above_zero_returns_x_there(name, gaussian):
    x = torch.full([1, 50_000], 3.0)
    x = SAMPLERS[name](gaussian.denoised, x, torch.tensor([4.0, 2.0]), **KNOBS.get(name, {}))
    if name in ("sample_consistency", "sample_tcd"):  # x0 plus noise of size 2
        assert x.std() == pytest.approx(2.0, rel=0.02)
    else:
        first_order = 3.0 * 0.5 + 0.5 * gaussian.denoised(torch.tensor([[3.0]]), 4.0)
        torch.testing.assert_close(x, first_order.expand_as(x))
