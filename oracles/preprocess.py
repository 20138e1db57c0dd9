"""What each model's own package does to a picture before the network, on tensors.

Pictures are ``[B, 3, H, W]``, or ``[B, 4, H, W]`` with alpha. OpenAI's CLIP, OpenCLIP and ImageReward resize first,
where PIL weighs colours by alpha, and convert to RGB then; transformers' processors and HPSv2 convert first, which
drops alpha. Palettes are resolved before they come here; where a package resizes first it takes their nearest pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def openai_clip(images: Tensor, size: int) -> Tensor:
    """As OpenAI's CLIP, OpenCLIP and ImageReward: the middle of the picture, its shorter side ``size``."""
    # Halves to even, as torchvision does.
    return normalised(central_square(images, size, lambda spare: round(spare / 2)))


def transformers_clip(images: Tensor, size: int) -> Tensor:
    """As transformers' ``CLIPImageProcessor``: no alpha, and the middle rounded down."""
    return normalised(central_square(without_alpha(images), size, lambda spare: spare // 2))


def without_alpha(images: Tensor) -> Tensor:
    """``[B, 3, H, W]``: the colours as they are, under transparent places too."""
    return images[:, :3]


def central_square(images: Tensor, size: int, first: Callable[[int], int]) -> Tensor:
    """The shorter side to ``size``, the longer one in proportion, rounded down; of that the central square.

    ``first``: where that square begins, for the number of pixels that are too many.
    """
    height, width = images.shape[-2:]
    new = [int(size * side / min(height, width)) for side in (height, width)]
    return resized(images, *new, *(range(first(side - size), first(side - size) + size) for side in new))


def covering(images: Tensor, height: int, width: int) -> Tensor:
    """The middle of ``images`` ``[B, 3, H, W]`` in the proportions ``height`` to ``width``, resized to that size.

    Where only one side is too long it is cut, nothing else: as an autoencoder cuts what it cannot halve.
    """
    old = images.shape[-2:]
    scale = max(height / old[0], width / old[1])
    new = [max(round(scale * side), wanted) for side, wanted in zip(old, (height, width), strict=True)]
    first = [(side - wanted) // 2 for side, wanted in zip(new, (height, width), strict=True)]
    rows, columns = range(first[0], first[0] + height), range(first[1], first[1] + width)
    if tuple(new) == tuple(old):
        return images[..., rows.start : rows.stop, columns.start : columns.stop]
    return resized(images, *new, rows, columns)


def resized(images: Tensor, height: int, width: int, rows: range | None = None, columns: range | None = None) -> Tensor:
    """Images ``[B, 3 or 4, H, W]`` in [0, 1] by bicubic interpolation with antialiasing, to the bit as PIL does it.

    ``rows`` and ``columns``: those of the new picture that are wanted, all of them without. Colours are weighed by
    alpha where there is one, which is dropped then: ``[B, 3, height or len(rows), width or len(columns)]``.
    """
    from .pil_resize import Axis, levels_of, resize_levels

    old_height, old_width = images.shape[-2:]
    down, across = Axis(old_height, height, rows or range(height)), Axis(old_width, width, columns or range(width))
    images = images[..., down.used, across.used]
    if (old_height, old_width) == (height, width):
        return without_alpha(images).mul(255).round().div(255)
    levels = resize_levels(levels_of(images), down, across).float()
    if levels.shape[1] == 4:
        colors, alpha = levels[:, :3], levels[:, 3:]
        weighed = colors.mul(255).div(alpha, rounding_mode="floor").clamp(0, 255)
        levels = weighed.where(alpha > 0, colors)
    return levels.div(255)


def longer_side_padded(images: Tensor, size: int) -> Tensor:
    """Images ``[B, 3, H, W]``, the longer side to ``size``, black bars beside the shorter one.

    HPSv2 resizes floats, so nothing is rounded, and with antialiasing, as its call of torchvision has it since 0.17;
    before that, tensors were resized without.
    """
    from .pil_resize import resize_floats

    height, width = images.shape[-2:]
    scale = size / max(height, width)
    if scale != 1:
        images = resize_floats(images, max(1, round(height * scale)), max(1, round(width * scale)))
        height, width = images.shape[-2:]
    top, left = (size - height) // 2, (size - width) // 2
    padded = images.new_zeros(*images.shape[:2], size, size)
    padded[..., top : top + height, left : left + width] = images
    return padded


def normalised(images: Tensor, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD) -> Tensor:
    """(images - mean) / std for each channel."""
    mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (mean, std))
    return (images - mean) / std
