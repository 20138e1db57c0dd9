"""Batches and lists: ComfyUI hands over images as batches ``[B, H, W, C]``, and several of those as a list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch

T = TypeVar("T")


def for_oracle(images: torch.Tensor) -> torch.Tensor:
    """The host's images ``[B, H, W, C]`` as ``[B, C, H, W]`` in [0, 1]: alpha kept, a VAE's overshoots clipped."""
    return images[..., :4].movedim(-1, 1).clamp(0, 1)


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
