"""PIL's bicubic resize of 8-bit pictures, to the last bit, on tensors of any device that has float64.

The original packages resize with PIL, and networks can make much of a level in the last bit. PIL computes in fixed
point (Pillow's Resample.c): coefficients of 22 bits, first across, then down, each pass rounded to 8 bits. Products and
sums of such whole numbers are exact in float64, in whatever order they are taken.

Which Pillow: 12.1 and all before it, which the packages' users had when the scores that people compare with were made.
Later ones take the passes the other way round for some pictures that lose height, so that some levels are others there:
12.2 and 12.3 for those over 100 times as high as wide, 13 where the height loses more than twice the pixels that the
width loses. For all other pictures every Pillow gives the same.

What a resize costs follows from what is kept of it: only the places that a crop leaves are computed, from those old
places that they need, and few of them at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

ONE = 2**22  # PIL's fixed point
BAND = 32  # new places in one product, so that few of its factors are zero
NUMBERS = 2**21  # in float64 at a time


@dataclass(frozen=True)
class Axis:
    """One direction of a resize: from ``size`` places to ``new_size``, of which those in ``kept`` are made."""

    size: int
    new_size: int
    kept: range

    @property
    def used(self) -> slice:
        """The old places that those in ``kept`` are made of."""
        if self.size == self.new_size:  # PIL leaves that pass out
            return slice(self.kept[0], self.kept[-1] + 1)
        return slice(self._window(self.kept[0])[0], self._window(self.kept[-1])[1])

    def _window(self, place: int) -> tuple[int, int]:
        """The first old place of a new one, and the one after its last."""
        scale, center = self.size / self.new_size, (place + 0.5) * (self.size / self.new_size)
        support = 2 * max(scale, 1.0)  # a picture that is made smaller is smoothed over what becomes one place
        return max(int(center - support + 0.5), 0), min(int(center + support + 0.5), self.size)

    def bands(self) -> list[tuple[slice, slice, Tensor]]:
        """Up to ``BAND`` of ``kept`` after the other: the old places, counted from the first used one; the new ones,
        counted from the first kept one; and what each of the old gives to each of the new, ``[old, new]`` float64,
        columns that sum to 1.
        """
        first_used, found = self.used.start, []
        for start in range(0, len(self.kept), BAND):
            new = self.kept[start : start + BAND]
            windows = torch.tensor([self._window(place) for place in new], dtype=torch.float64)
            old = slice(int(windows[0, 0]), int(windows[-1, 1]))
            place = torch.arange(old.start, old.stop, dtype=torch.float64)[:, None]
            center = (torch.arange(new[0], new[-1] + 1, dtype=torch.float64) + 0.5) * (self.size / self.new_size)
            share = _bicubic((place - center + 0.5) * (1 / max(self.size / self.new_size, 1.0)))
            share = share.where((place >= windows[:, 0]) & (place < windows[:, 1]), 0.0)
            share /= share.cumsum(0)[-1]  # one after the other, as PIL sums
            found.append((slice(old.start - first_used, old.stop - first_used), slice(start, start + len(new)), share))
        return found


def resize_levels(levels: Tensor, down: Axis, across: Axis) -> Tensor:
    """Whole numbers 0 to 255, uint8 ``[B, C, H, W]``, of the places that the two axes use, resized with antialiasing.

    Returns uint8 ``[B, C, len(down.kept), len(across.kept)]``.
    """
    return _resize(levels, down, across, _fixed_point, _rounded)


def levels_of(images: Tensor) -> Tensor:
    """The 8-bit numbers of images, uint8, few rows at a time; colours are weighed by alpha where there is one."""
    made = torch.empty_like(images, dtype=torch.uint8)
    at_a_time = max(1, NUMBERS // images[:, :, 0].numel())
    for some, of_them in zip(images.split(at_a_time, -2), made.split(at_a_time, -2), strict=True):
        levels = some.mul(255).round_()
        if levels.shape[1] == 4:
            levels[:, :3].mul_(levels[:, 3:]).div_(255).round_()
        of_them.copy_(levels)
    return made


def resize_floats(images: Tensor, height: int, width: int) -> Tensor:
    """Images ``[B, C, H, W]`` resized to ``[B, C, height, width]`` by the same kernel, without any rounding.

    That is what torch's ``interpolate`` does with antialiasing, which on CUDA fails for pictures of which much is lost.
    """
    old_height, old_width = images.shape[-2:]
    down, across = Axis(old_height, height, range(height)), Axis(old_width, width, range(width))
    return _resize(images, down, across, lambda share: share, lambda sums: sums)


def _resize(
    pictures: Tensor,
    down: Axis,
    across: Axis,
    factors: Callable[[Tensor], Tensor],
    finished: Callable[[Tensor], Tensor],
) -> Tensor:
    for axis in (across, down):  # each turns the picture, so that after both it is upright again
        if axis.size != axis.new_size:
            bands = [(old, new, factors(share).to(pictures.device)) for old, new, share in axis.bands()]
            pictures = _pass(pictures, bands, len(axis.kept), finished)
        pictures = pictures.transpose(-1, -2)
    return pictures


def _pass(pictures: Tensor, bands: list, new_size: int, finished: Callable[[Tensor], Tensor]) -> Tensor:
    """``[..., lines, old places]`` to ``[..., lines, new_size]``, as many lines at a time as make few numbers."""
    lines = pictures.reshape(-1, pictures.shape[-1])
    made = lines.new_empty(len(lines), new_size)
    widest = max(BAND, *(len(share) for _, _, share in bands))
    at_a_time = max(1, NUMBERS // widest)
    for some, of_them in zip(lines.split(at_a_time), made.split(at_a_time), strict=True):
        for old, new, share in bands:
            of_them[:, new] = finished(some[:, old].double() @ share)
    return made.view(*pictures.shape[:-1], new_size)


def _bicubic(x: Tensor) -> Tensor:
    """Keys' kernel with a = -1/2."""
    x = x.abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, (((x - 5) * x + 8) * x - 4) * -0.5
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def _fixed_point(share: Tensor) -> Tensor:
    return (share * ONE + share.sign() / 2).trunc()


def _rounded(sums: Tensor) -> Tensor:
    return sums.add_(ONE // 2).div_(ONE).floor_().clamp_(0, 255)
