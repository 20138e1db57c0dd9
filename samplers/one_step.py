"""One evaluation from noise to image."""

from __future__ import annotations

from collections.abc import Callable

import torch


@torch.no_grad()
def sample_one_step(
    model: Callable[..., torch.Tensor],
    x: torch.Tensor,
    sigmas: torch.Tensor,
    extra_args: dict | None = None,
    callback: Callable[[dict], None] | None = None,
    disable: bool | None = None,
    *,
    full_noise: bool = False,
) -> torch.Tensor:
    """The model's x0 at sigmas[0], for students of one step; no noise is drawn.

    x: [B, ...], in the variance-exploding scale where `full_noise` is used. sigmas: [2], the last 0.
    full_noise: the network is to see noise of unit variance, no image, though told sigmas[0], as in DMD2's one step at
    timestep 399 (Yin et al. 2024). x is then sigmas[0] * noise, and becomes sqrt(1 + sigmas[0]^2) * noise, which the
    network's input scaling turns into the noise itself.
    disable: taken for the interface; progress is reported through `callback` alone. Raises ValueError for other sigmas.
    """
    if len(sigmas) != 2 or sigmas[1] != 0:
        raise ValueError(f"a one-step student takes one step, to 0; its sigmas are {sigmas.tolist()}")
    sigma = sigmas[0]
    if full_noise:
        x = x * ((1 + sigma**2).sqrt() / sigma)
    x0 = model(x, sigma * x.new_ones([x.shape[0]]), **(extra_args or {}))
    if callback is not None:
        callback({"x": x, "i": 0, "sigma": sigma, "sigma_hat": sigma, "denoised": x0})
    return x0
