"""Sizes of about one area in several shapes, so that pictures lose little where they are cropped."""

import math

Sizes = list[tuple[int, int]]


def make_buckets(side: int, stride: int, max_aspect: float) -> Sizes:
    """(height, width) in multiples of ``stride``, at most ``side`` squared pixels each, as large as its shape allows.

    The square comes first.
    """
    found = {(side, side)}
    for short in range(stride, side, stride):
        long = side * side // short // stride * stride
        if long / short <= max_aspect:
            found |= {(short, long), (long, short)}
    return sorted(found, key=lambda size: (abs(math.log(size[0] / size[1])), size))


def nearest(sizes: Sizes, height: int, width: int) -> tuple[int, int]:
    """The size whose shape is nearest to that of a picture."""
    return min(sizes, key=lambda size: abs(math.log(size[0] / size[1]) - math.log(height / width)))
