"""Multistep consistency sampling."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .noise import seeded_noise


@torch.no_grad()
def sample_consistency(
    model: Callable[..., torch.Tensor],
    x: torch.Tensor,
    sigmas: torch.Tensor,
    extra_args: dict | None = None,
    callback: Callable[[dict], None] | None = None,
    disable: bool | None = None,
    *,
    noise_sampler: Callable[..., torch.Tensor] | None = None,
    stochastic: bool = True,
    noise_scaling: Callable[..., torch.Tensor] | None = None,
) -> torch.Tensor:
    """Multistep consistency sampling (Song et al. 2023, algorithm 1): jump to x0, put noise back, and again.

    x: [B, ...] at sigmas[0]. sigmas: [n + 1], falling; each but the last costs one evaluation, and none is spent at 0.
    Returns x0 if the last sigma is 0, else x at the last sigma.
    stochastic: put fresh noise back; else the noise that the model predicted, which is a DDIM step.
    noise_sampler: `(sigma, sigma_next) -> [B, ...]`; without it `PerImageNoise` from `extra_args["seed"]`, or from
    torch's global generator where there is no seed.
    noise_scaling: `(sigma, noise, x0) -> x`; without it the model's own, as our denoisers have it, or, for a model
    that has none, x0 + sigma * noise.
    disable: taken for the interface; progress is reported through `callback` alone.
    """
    extra_args = {} if extra_args is None else extra_args
    if noise_scaling is None:
        noise_scaling = getattr(model, "noise_scaling", _variance_exploding)
    if stochastic and noise_sampler is None:
        noise_sampler = seeded_noise(x, extra_args.get("seed"))
    ones = x.new_ones([x.shape[0]])
    for i in range(len(sigmas) - 1):
        sigma, sigma_next = sigmas[i], sigmas[i + 1]
        x0 = model(x, sigma * ones, **extra_args)
        if callback is not None:
            callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": x0})
        if sigma_next == 0:
            return x0
        noise = noise_sampler(sigma, sigma_next) if stochastic else _noise_in(x, sigma, x0, noise_scaling)
        x = noise_scaling(sigma_next, noise, x0)
    return x


def _variance_exploding(sigma: torch.Tensor, noise: torch.Tensor, x0: torch.Tensor) -> torch.Tensor:
    return x0 + sigma * noise


def _noise_in(x: torch.Tensor, sigma: torch.Tensor, x0: torch.Tensor, noise_scaling: Callable) -> torch.Tensor:
    """The noise that makes `noise_scaling(sigma, noise, x0)` equal x; noise_scaling is linear in both."""
    zeros = torch.zeros_like(x)
    scale = noise_scaling(sigma, torch.ones_like(x), zeros)
    return (x - noise_scaling(sigma, zeros, x0)) / scale
