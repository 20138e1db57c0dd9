"""Noise that Forge draws around a mask, in a stand-in for its denoiser."""

import sys
import types

import pytest
import torch
from understudy.a1111.mask_noise import of_own_seeds


@pytest.fixture
def denoiser(stand_in, monkeypatch):
    """A host's module that draws for its whole batch at once."""
    module = types.ModuleType("modules.sd_samplers_cfg_denoiser")
    module.torch = torch
    module.noise = lambda x: module.torch.randn_like(x).to(x)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(sys.modules["modules"], "sd_samplers_cfg_denoiser", module, raising=False)
    return module


def steps(denoiser, seeds, dtype=torch.float32) -> torch.Tensor:
    """[steps, B, C, h, w]"""
    x = torch.zeros(len(seeds), 4, 2, 3, dtype=dtype)
    with of_own_seeds(seeds):
        return torch.stack([denoiser.noise(x) for _ in range(3)])


def test_a_pictures_noise_is_its_own_alone_and_among_others(denoiser):
    together = steps(denoiser, [3, 5])
    assert torch.equal(together[:, 1:], steps(denoiser, [5])) and torch.equal(together[:, :1], steps(denoiser, [3]))
    assert not torch.equal(together[:, 0], together[:, 1])
    first, second, third = together
    assert not torch.equal(first, second) and not torch.equal(second, third)
    assert steps(denoiser, [3], torch.float64).dtype == torch.float64


def test_torchs_own_state_is_left_alone_and_the_module_put_back(denoiser):
    torch.manual_seed(1)
    expected = torch.randn(2)
    torch.manual_seed(1)
    with pytest.raises(ZeroDivisionError), of_own_seeds([1]):
        assert denoiser.torch.float16 is torch.float16
        denoiser.noise(torch.zeros(1, 2))
        raise ZeroDivisionError
    assert denoiser.torch is torch and torch.equal(torch.randn(2), expected)


def test_what_is_no_batch_of_these_pictures_is_drawn_by_torch(denoiser):
    torch.manual_seed(1)
    expected = torch.randn(3, 2)
    torch.manual_seed(1)
    with of_own_seeds([1, 2]):
        assert torch.equal(denoiser.noise(torch.zeros(3, 2)), expected)
        torch.manual_seed(1)
        drawn = denoiser.torch.randn_like(torch.zeros(3, 2), dtype=torch.float64)
    assert drawn.dtype == torch.float64
