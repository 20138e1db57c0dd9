"""Masks of what may change of an image: one for all or one for each, at the image's size, and as a noise mask."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .batches import split, value_per_image
from .pixels import extended


def masks_of(masks: Sequence[torch.Tensor | None], images: Sequence[torch.Tensor]) -> list[tuple]:
    """For each batch [B, H, W, C] of a list of images, its images' masks [H, W] of 0 to 1, or None for each.

    masks: one for all images, one for each in batches of any size, or one for each batch; or [None].
    Raises ValueError for other counts, and for what is no MASK.
    """
    counts = [len(batch) for batch in images]
    if masks[0] is None:
        return list(split([None] * sum(counts), counts))
    found = [each.float().clamp(0, 1) for mask in masks for each in _checked(mask)]
    batches = split(value_per_image(found, counts, "masks"), counts)
    return [tuple(at_size(mask, batch.shape[1:3]) for mask in own) for own, batch in zip(batches, images, strict=True)]


def _checked(mask: torch.Tensor) -> torch.Tensor:
    if not torch.is_tensor(mask) or mask.ndim not in (2, 3) or 0 in mask.shape:
        given = list(mask.shape) if torch.is_tensor(mask) else type(mask).__name__
        raise ValueError(f"mask is {given}; expected a MASK [batch, height, width]")
    return mask.reshape(-1, *mask.shape[-2:])


def at_size(mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A mask [..., H, W] at this height and width."""
    if tuple(mask.shape[-2:]) == tuple(size):
        return mask
    flat = mask.reshape(-1, 1, *mask.shape[-2:]).float()
    return torch.nn.functional.interpolate(flat, size=tuple(size), mode="bilinear").reshape(*mask.shape[:-2], *size)


def fitted_mask(mask: torch.Tensor, image: tuple[int, int], size: tuple[int, int], whole: tuple[int, int]):
    """A noise mask [..., H, W] for an image that is enlarged to ``size`` and then extended to ``whole``.

    One that has not the size of the ``image`` is the host's to fit, such as a mask of a latent's size.
    """
    if tuple(mask.shape[-2:]) != tuple(image):
        return mask
    return extended(at_size(mask, size), *whole, dims=(-2, -1))


def joint_mask(first: torch.Tensor | None, second: torch.Tensor | None, size: tuple[int, int]) -> torch.Tensor | None:
    """The noise mask that lets change what both do. first: [..., H, W], as it came; second: [H, W], or None each."""
    if second is None:
        return first
    if first is None:
        return second[None, None]
    return at_size(first, size) * at_size(second, size)


def blended(before: torch.Tensor, after: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """One image [H, W, C]: ``after`` where the mask [H, W] is 1, bit for bit ``before`` where it is 0."""
    if mask is None:
        return after
    part = mask[..., None].to(before)
    return torch.where(part > 0, torch.lerp(before, after, part), before)
