"""Batches and lists: ComfyUI hands over images as batches ``[B, H, W, C]``, and several of those as a list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch

T = TypeVar("T")


LOWEST, HIGHEST = -0.5, 1.5  # a VAE overshoots [0, 1] by less


def check_images(name: str, images: Sequence[torch.Tensor], channels: Sequence[int] = (1, 3, 4)) -> list[int]:
    """The number of images in each batch of the list that a node's input ``name`` brought.

    Raises ValueError where there are none, where one is no batch ``[B, H, W, C]`` of floats, and for pixels so far
    outside of [0, 1] that they were not meant for it, with the image's number among all of them.
    """
    if not images:
        raise ValueError(f"{name} is an empty list: connect at least one image.")
    expected = f"expected [batch, height, width, {', '.join(map(str, channels[:-1]))} or {channels[-1]}]"
    first = 0
    for place, batch in enumerate(images):
        where = name if len(images) == 1 else f"entry {place} of {name}"
        if not isinstance(batch, torch.Tensor) or not batch.is_floating_point():
            kind = batch.dtype if isinstance(batch, torch.Tensor) else type(batch).__name__
            raise ValueError(f"{where} is {kind}; {expected} as floating-point numbers.")
        if batch.ndim != 4 or batch.shape[-1] not in channels or 0 in batch.shape[1:]:
            raise ValueError(f"{where} has shape {list(batch.shape)}; {expected}.")
        if len(batch) == 0:
            raise ValueError(f"{where} is an empty batch: connect at least one image.")
        for place, image in enumerate(batch, start=first):
            check_range(name, place, image)
        first += len(batch)
    return [len(batch) for batch in images]


def check_range(name: str, place: int, image: torch.Tensor) -> None:
    """Raise ValueError for an image with pixels far outside of [0, 1], or that are no numbers. place: from 0."""
    low, high = (value.item() for value in image.aminmax())
    # The comparison is written so that NaN fails it too.
    if not (low >= LOWEST and high <= HIGHEST):
        raise ValueError(
            f"{name}: image {place + 1} has values from {low:g} to {high:g}; expected [0, 1], so look at what made it"
        )


def for_oracle(images: torch.Tensor) -> torch.Tensor:
    """The host's images ``[B, H, W, C]``, checked, as ``[B, 3 or 4, H, W]`` in [0, 1]: alpha kept, grey three times,
    a VAE's overshoots clipped."""
    pixels = images.movedim(-1, 1)
    return pixels.expand(-1, max(pixels.shape[1], 3), -1, -1).clamp(0, 1)


def split(values: Sequence[T], sizes: Sequence[int]) -> Iterator[tuple[T, ...]]:
    """``values``, one per image, cut to batches of ``sizes``."""
    start = 0
    for size in sizes:
        yield tuple(values[start : start + size])
        start += size


def single_value(values: Sequence[T], what: str) -> T:
    """The value of an input that counts once, of the list that the host hands over.

    Raises ValueError for different ones, and for none.
    """
    if not values:
        raise ValueError(f"an empty list for {what}: look at what is connected there")
    if any(each is not values[0] and each != values[0] for each in values):
        raise ValueError(f"a list of {len(values)} different entries for {what}; give one for all images")
    return values[0]


def value_per_image(values: Sequence[T], sizes: Sequence[int], what: str) -> list[T]:
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
