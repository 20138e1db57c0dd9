"""Batches and lists: ComfyUI hands over images as batches ``[B, H, W, C]``, and several of those as a list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch

from ..oracles.base import OracleError

T = TypeVar("T")


LOWEST, HIGHEST = -0.5, 1.5  # a VAE overshoots [0, 1] by less


def for_oracle(images: torch.Tensor, numbers: Sequence[int] | None = None) -> torch.Tensor:
    """The host's images ``[B, H, W, C]`` as ``[B, 3 or 4, H, W]`` in [0, 1]: alpha kept, grey three times, a
    VAE's overshoots clipped.

    numbers: the images' numbers, for error messages; 0, 1, ... without them.
    Raises OracleError for other shapes, and for pixels so far outside of [0, 1] that they were not meant for it.
    """
    if images.ndim != 4 or images.shape[-1] not in (1, 3, 4) or 0 in images.shape[1:]:
        raise OracleError(f"images have shape {list(images.shape)}; expected [batch, height, width, 1, 3 or 4]")
    pixels = images.movedim(-1, 1)
    for number, pixel in zip(numbers or range(len(pixels)), pixels, strict=True):
        low, high = (value.item() for value in pixel.aminmax())
        # The comparison is written so that NaN fails it too.
        if not (low >= LOWEST and high <= HIGHEST):
            raise OracleError(
                f"image {number} has values from {low:g} to {high:g}; expected [0, 1], so look at what made it"
            )
    return pixels.expand(-1, max(pixels.shape[1], 3), -1, -1).clamp(0, 1)


def sizes_of(batches: Sequence[torch.Tensor]) -> list[int]:
    return [len(batch) for batch in batches]


def split(values: Sequence[T], sizes: Sequence[int]) -> Iterator[tuple[T, ...]]:
    """``values``, one per image, cut to batches of ``sizes``."""
    start = 0
    for size in sizes:
        yield tuple(values[start : start + size])
        start += size


def one_per_image(values: Sequence[T], sizes: Sequence[int], what: str) -> list[T]:
    """``values`` spread over batches of ``sizes``: one for all images, one per image, or one per batch of the list.

    ValueError names both counts if it is none of these.
    """
    images = sum(sizes)
    if len(values) == images:
        return list(values)
    if len(values) == 1:
        return list(values) * images
    if len(values) == len(sizes):
        return [value for value, size in zip(values, sizes, strict=True) for _ in range(size)]
    batches = f" in {len(sizes)} batches" if len(sizes) > 1 else ""
    raise ValueError(
        f"{len(values)} {what} for {images} images{batches}; expected one {what.rstrip('s')} for all, or one for each"
    )
