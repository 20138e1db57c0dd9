"""What each model's own package does to a picture before the network, on tensors: within 8-bit rounding of PIL's.

One thing differs: the pictures come here as RGB, their alpha dropped and palettes resolved, so that the colours under
transparent places count. OpenAI's CLIP, OpenCLIP and ImageReward resize first, where PIL weighs colours by alpha and
takes palettes' nearest pixels, and convert then. Of opaque RGB and grey, which most pictures are, both are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def resized(images: Tensor, height: int, width: int) -> Tensor:
    """Images ``[B, 3, H, W]`` in [0, 1] by bicubic interpolation with antialiasing, in 8 bits as PIL does it.

    First across, then down, each rounded, halves up: networks can make much of a level in the last bit.
    """
    levels = images.mul(255).round()
    for shape in ((images.shape[-2], width), (height, width)):
        if levels.shape[-2:] != shape:
            levels = F.interpolate(levels, shape, mode="bicubic", antialias=True, align_corners=False)
            levels = levels.add(0.5).floor().clamp(0, 255)
    return levels.div(255)


def shorter_side(images: Tensor, size: int) -> Tensor:
    """The shorter side to ``size``, the longer one in proportion, rounded down."""
    height, width = images.shape[-2:]
    short = min(height, width)
    return resized(images, int(size * height / short), int(size * width / short))


def center_crop(images: Tensor, size: int) -> Tensor:
    """The central square, halves rounded to even, as torchvision does."""
    top, left = (round((side - size) / 2) for side in images.shape[-2:])
    return images[..., top : top + size, left : left + size]


def center_crop_floored(images: Tensor, size: int) -> Tensor:
    """The central square, halves rounded down, as transformers' image processors do."""
    top, left = ((side - size) // 2 for side in images.shape[-2:])
    return images[..., top : top + size, left : left + size]


def longer_side_padded(images: Tensor, size: int) -> Tensor:
    """The longer side to ``size``, black bars beside the shorter one; HPSv2 resizes floats, so nothing is rounded.

    With antialiasing, as HPSv2's call of torchvision has it since 0.17; before that, tensors were resized without.
    """
    height, width = images.shape[-2:]
    scale = size / max(height, width)
    if scale != 1:
        shape = max(1, round(height * scale)), max(1, round(width * scale))
        images = F.interpolate(images, shape, mode="bicubic", antialias=True, align_corners=False)
    down, right = size - images.shape[-2], size - images.shape[-1]
    return F.pad(images, (right // 2, right - right // 2, down // 2, down - down // 2))


def normalised(images: Tensor, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD) -> Tensor:
    """(images - mean) / std for each channel."""
    mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (mean, std))
    return (images - mean) / std
