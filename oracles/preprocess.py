"""What each model's own package does to a picture before the network, on tensors.

Pictures are ``[B, 3, H, W]``, or ``[B, 4, H, W]`` with alpha. OpenAI's CLIP, OpenCLIP and ImageReward resize first,
where PIL weighs colours by alpha, and convert to RGB then; transformers' processors and HPSv2 convert first, which
drops alpha. Palettes are resolved before they come here; where a package resizes first it takes their nearest pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .pil_resize import resize_levels

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def openai_clip(images: Tensor, size: int) -> Tensor:
    """As OpenAI's CLIP, OpenCLIP and ImageReward: the middle of the picture, its shorter side ``size``."""
    return normalised(center_crop(shorter_side(images, size), size))


def transformers_clip(images: Tensor, size: int) -> Tensor:
    """As transformers' ``CLIPImageProcessor``: no alpha, and the middle rounded another way."""
    return normalised(center_crop_floored(shorter_side(without_alpha(images), size), size))


def without_alpha(images: Tensor) -> Tensor:
    """``[B, 3, H, W]``: the colours as they are, under transparent places too."""
    return images[:, :3]


def resized(images: Tensor, height: int, width: int) -> Tensor:
    """Images ``[B, 3 or 4, H, W]`` in [0, 1] by bicubic interpolation with antialiasing, to the bit as PIL does it.

    Colours are weighed by alpha where there is one, which is dropped then: ``[B, 3, height, width]``.
    """
    levels = images.mul(255).round()
    if levels.shape[-2:] == (height, width):
        return without_alpha(levels).div(255)
    alpha = levels[:, 3:]
    levels = torch.cat([levels[:, :3].mul(alpha).div(255).round(), alpha], dim=1) if alpha.numel() else levels
    levels = resize_levels(levels, height, width)
    if alpha.numel():
        colors, alpha = levels[:, :3], levels[:, 3:]
        weighed = colors.mul(255).div(alpha, rounding_mode="floor").clamp(0, 255)
        levels = torch.where(alpha > 0, weighed, colors)
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
    """Images ``[B, 3, H, W]``, the longer side to ``size``, black bars beside the shorter one.

    HPSv2 resizes floats, so nothing is rounded, and with antialiasing, as its call of torchvision has it since 0.17;
    before that, tensors were resized without.
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
