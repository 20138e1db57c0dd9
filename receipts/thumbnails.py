"""A picture in its place on another."""

from __future__ import annotations

import math

import torch
from PIL import Image

Box = tuple[int, int, int, int]


def paste(canvas: Image.Image, image: torch.Tensor, box: Box) -> None:
    """Paste an image ``[H, W, 1, 3 or 4]`` in [0, 1] as large as it fits into the middle of ``box``.

    Small ones are enlarged without smoothing; where they are transparent, the canvas shows.
    """
    pixels = image.detach().float().clamp(0, 1).mul(255).round().byte().cpu()
    picture = Image.fromarray(pixels.expand(-1, -1, max(3, pixels.shape[-1])).numpy())
    room = box[2] - box[0], box[3] - box[1]
    scale = min(side / own for side, own in zip(room, picture.size, strict=True))
    if scale > 2:
        picture = picture.resize([side * math.ceil(scale) for side in picture.size], Image.Resampling.NEAREST)
        scale /= math.ceil(scale)
    size = [max(1, round(side * scale)) for side in picture.size]
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    at = box[0] + (room[0] - size[0]) // 2, box[1] + (room[1] - size[1]) // 2
    canvas.paste(picture, at, picture if picture.mode == "RGBA" else None)
