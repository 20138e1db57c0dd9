"""The LATENT of the images of a batch that the teacher redid."""

from __future__ import annotations

import torch

from .masks import at_size
from .take import Take


def latent_of(take: Take) -> dict | None:
    """The redone images' latents, in their order, with each one's place in the student's batch; None if there is none.

    Where any of them had a noise mask, the latent has one of what may change of each.
    """
    if not take.shots:
        return None
    samples = torch.cat([shot.samples for shot in take.shots])
    latent = {"samples": samples, "batch_index": [shot.index for shot in take.shots]}
    masks = [shot.mask for shot in take.shots]
    if any(mask is not None for mask in masks):
        size = max(mask.shape[-2:] for mask in masks if mask is not None)
        latent["noise_mask"] = torch.cat([_mask(mask, samples.ndim, size) for mask in masks])
    return latent


def _mask(mask: torch.Tensor | None, dimensions: int, size: tuple[int, int]) -> torch.Tensor:
    one = torch.ones(size) if mask is None else at_size(mask, size).reshape(-1, *size)[0]
    return one.reshape(*[1] * (dimensions - 2), *size)
