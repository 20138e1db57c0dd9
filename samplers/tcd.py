"""Trajectory consistency distillation's sampler."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .noise import seeded_noise


@torch.no_grad()
def sample_tcd(
    model: Callable[..., torch.Tensor],
    x: torch.Tensor,
    sigmas: torch.Tensor,
    extra_args: dict | None = None,
    callback: Callable[[dict], None] | None = None,
    disable: bool | None = None,
    *,
    noise_sampler: Callable[..., torch.Tensor] | None = None,
    gamma: float = 0.3,
    sigma_to_t: Callable[..., torch.Tensor] | None = None,
    t_to_sigma: Callable[..., torch.Tensor] | None = None,
) -> torch.Tensor:
    """Strategic stochastic sampling (Zheng et al. 2024, algorithm 4), in the variance-exploding scale.

    Each step goes along the network's own noise to timestep floor((1 - gamma) t_next), and back up to t_next in fresh
    noise; gamma 0 is DDIM, and 1 multistep consistency sampling. The more steps, the more gamma.

    x: [B, ...] at sigmas[0]. sigmas: [n + 1], falling, the last may be 0; n evaluations. Returns x at the last sigma.
    gamma: in [0, 1]; the authors' name for it in code is eta. noise_sampler: as in `sample_consistency`.
    sigma_to_t, t_to_sigma: the model's timesteps; without them its own, as our denoisers have them.
    disable: taken for the interface; progress is reported through `callback` alone.
    Raises ValueError for a gamma out of range, or a model without timesteps where gamma needs them.
    """
    if not 0 <= gamma <= 1:
        raise ValueError(f"TCD's gamma is {gamma}; expected 0 to 1")
    sigma_to_t = sigma_to_t or getattr(model, "sigma_to_t", None)
    t_to_sigma = t_to_sigma or getattr(model, "t_to_sigma", None)
    if 0 < gamma < 1 and (sigma_to_t is None or t_to_sigma is None):
        raise ValueError("TCD measures gamma in timesteps, and this model has none: give sigma_to_t and t_to_sigma")
    extra_args = {} if extra_args is None else extra_args
    if noise_sampler is None and gamma > 0:
        noise_sampler = seeded_noise(x, extra_args.get("seed"))
    ones = x.new_ones([x.shape[0]])
    for i in range(len(sigmas) - 1):
        sigma, sigma_next = sigmas[i], sigmas[i + 1]
        x0 = model(x, sigma * ones, **extra_args)
        if callback is not None:
            callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": x0})
        if sigma_next == 0:
            return x0
        below = _below(sigma_next, gamma, sigma_to_t, t_to_sigma)
        x = x0 + (x - x0) * (below / sigma)
        if gamma > 0:
            x = x + noise_sampler(sigma, sigma_next) * (sigma_next**2 - below**2).clamp(min=0).sqrt()
    return x


def _below(sigma: torch.Tensor, gamma: float, sigma_to_t, t_to_sigma) -> torch.Tensor:
    """The noise level that a step goes down to before it comes back up to `sigma`."""
    if gamma in (0, 1):
        return sigma * (1 - gamma)
    return t_to_sigma(torch.floor((1 - gamma) * sigma_to_t(sigma).round())).to(sigma)
