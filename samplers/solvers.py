"""Deterministic ODE solvers, for use where no host brings its own.

Both hold for discrete-time models (variance-exploding x) and for flow models alike: the step from sigma to sigma_next
that keeps x0 fixed is x * sigma_next / sigma + (1 - sigma_next / sigma) * x0 in either scale.
"""

from __future__ import annotations

from collections.abc import Callable

import torch


@torch.no_grad()
def sample_euler(
    model: Callable[..., torch.Tensor],
    x: torch.Tensor,
    sigmas: torch.Tensor,
    extra_args: dict | None = None,
    callback: Callable[[dict], None] | None = None,
    disable: bool | None = None,
) -> torch.Tensor:
    """Euler's method (Karras et al. 2022, algorithm 1 without its correction); on these scales, DDIM.

    x: [B, ...] at sigmas[0]. sigmas: [n + 1], falling, the last may be 0; n evaluations. Returns x at the last sigma.
    disable: taken for the interface; progress is reported through `callback` alone.
    """
    extra_args = {} if extra_args is None else extra_args
    ones = x.new_ones([x.shape[0]])
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i] * ones, **extra_args)
        if callback is not None:
            callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})
        derivative = (x - denoised) / sigmas[i]
        x = x + derivative * (sigmas[i + 1] - sigmas[i])
    return x


@torch.no_grad()
def sample_dpmpp_2m(
    model: Callable[..., torch.Tensor],
    x: torch.Tensor,
    sigmas: torch.Tensor,
    extra_args: dict | None = None,
    callback: Callable[[dict], None] | None = None,
    disable: bool | None = None,
) -> torch.Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2), time being -log sigma; its first and last steps are of order 1.

    Arguments as in `sample_euler`. sigmas must fall strictly.
    """
    extra_args = {} if extra_args is None else extra_args
    ones = x.new_ones([x.shape[0]])
    previous, previous_step = None, None
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i] * ones, **extra_args)
        if callback is not None:
            callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})
        if sigmas[i + 1] == 0:
            return denoised
        step = sigmas[i].log() - sigmas[i + 1].log()
        target = denoised
        if previous is not None:
            ratio = step / (2 * previous_step)
            target = (1 + ratio) * denoised - ratio * previous
        x = x * (sigmas[i + 1] / sigmas[i]) - torch.expm1(-step) * target
        previous, previous_step = denoised, step
    return x
