"""PIL's bicubic resize of 8-bit pictures, to the last bit, on tensors of any device that has float64.

The original packages resize with PIL, and networks can make much of a level in the last bit. PIL computes in fixed
point (Pillow's Resample.c): coefficients of 22 bits, first across, then down, each pass rounded to 8 bits. Products and
sums of such whole numbers are exact in float64, in whatever order they are taken.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

ONE = 2**22  # PIL's fixed point
BAND = 32  # new places in one product, so that few of its factors are zero


def resize_levels(levels: Tensor, height: int, width: int) -> Tensor:
    """Whole numbers 0 to 255, ``[B, C, H, W]`` float32, resized to ``[B, C, height, width]`` with antialiasing."""
    old_height, old_width = levels.shape[-2:]
    across = list(_bands(old_width, width, levels.device)) if width != old_width else None
    down = list(_bands(old_height, height, levels.device)) if height != old_height else None
    resized = []
    for picture in levels:  # one by one, as float64 takes twice the memory
        if across:
            picture = _rounded([picture[:, :, at].double() @ band for at, band in across], dim=2)
        if down:
            picture = _rounded([band.T @ picture[:, at].double() for at, band in down], dim=1)
        resized.append(picture.float())
    return torch.stack(resized)


def _bands(size: int, new_size: int, device: torch.device) -> Iterator[tuple[slice, Tensor]]:
    """The coefficients for ``BAND`` new places after the other, and the old places that those are made of."""
    for band in coefficients(size, new_size).split(BAND, dim=1):
        used = band.any(dim=1).nonzero()
        at = slice(int(used[0]), int(used[-1]) + 1)
        yield at, band[at].to(device)


def coefficients(size: int, new_size: int) -> Tensor:
    """What each of ``size`` places gives to each of ``new_size``: ``[size, new_size]`` float64; columns sum to ONE."""
    scale = size / new_size
    reach = max(scale, 1.0)  # a picture that is made smaller is smoothed over what becomes one place
    place = torch.arange(size, dtype=torch.float64)[:, None]
    center = (torch.arange(new_size, dtype=torch.float64) + 0.5) * scale
    first, end = (center - 2 * reach + 0.5).floor(), (center + 2 * reach + 0.5).floor()
    share = torch.where((place >= first) & (place < end), _bicubic((place + 0.5 - center) / reach), 0.0)
    return (share / share.sum(dim=0) * ONE).round()


def _bicubic(x: Tensor) -> Tensor:
    """Keys' kernel with a = -1/2."""
    x = x.abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, -0.5 * (((x - 5) * x + 8) * x - 4)
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def _rounded(bands: list[Tensor], dim: int) -> Tensor:
    return ((torch.cat(bands, dim) + ONE // 2) / ONE).floor().clamp(0, 255)
