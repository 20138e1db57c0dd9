"""A diffusion prior of one vector for each image: DDIM over a short code, each from its image's own noise."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

STEPS, BETA = 1000, 0.008  # SFERD's latent prior: a constant beta
DRAWN_IN = 100  # steps of DDIM


def alphas_cumprod() -> Tensor:
    """[STEPS], float64: what is left of the code's variance at each step."""
    return (1 - torch.full((STEPS,), BETA, dtype=torch.float64)).cumprod(0)


def level(n: Tensor) -> tuple[Tensor, Tensor]:
    """(alpha, sigma) [B, 1] at steps n [B] from 0 to STEPS - 1; -1 is the code itself."""
    kept = alphas_cumprod().to(n.device)[n.clamp(min=0)]
    kept = torch.where(n < 0, 1.0, kept)[:, None]
    return kept.sqrt().float(), (1 - kept).sqrt().float()


def image_starts(noise: Tensor, width: int) -> Tensor:
    """Normal codes [B, width] on the CPU for images that start from ``noise`` [B, ...].

    A row's generator is seeded with a hash of that image's noise in float32. So it follows from the image's own seed
    alone: whoever has drawn that noise has the same code, in any batch.
    """
    return torch.stack([torch.randn(width, generator=_generator(image)) for image in noise])


def _generator(image: Tensor) -> torch.Generator:
    values = image.detach().to("cpu", torch.float32).contiguous()
    digest = hashlib.blake2b(values.numpy().tobytes(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


@torch.no_grad()
def draw(network: Callable[[Tensor, Tensor], Tensor], start: Tensor, steps: int = DRAWN_IN) -> Tensor:
    """Codes [B, D] by DDIM from ``start`` [B, D] (Song et al. 2020, eq. 12), nothing clamped.

    network: ``(z, n [B]) -> noise``. Raises ValueError for steps out of 1 to STEPS.
    """
    if not 1 <= steps <= STEPS:
        raise ValueError(f"{steps} steps; expected 1 to {STEPS}")
    times = (torch.arange(steps, -1, -1, device=start.device) * STEPS // steps) - 1
    z = start
    for at, following in zip(times[:-1], times[1:], strict=True):
        (alpha, sigma), (alpha_next, sigma_next) = level(at[None]), level(following[None])
        eps = network(z, at.expand(len(z)))
        z = alpha_next * (z - sigma * eps) / alpha + sigma_next * eps
    return z
