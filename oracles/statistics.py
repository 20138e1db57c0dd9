"""Percentiles of scores, and how sure they are."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

LEVELS = tuple(float(k) for k in range(101))  # the percentiles at which a distribution is kept


def percentiles_of(values) -> tuple[float, ...]:
    """The 0th to 100th percentile of ``values`` at every 1 %, linearly interpolated (numpy's default)."""
    ordered = sorted(values)
    table = []
    for k in range(101):
        below, part = divmod((len(ordered) - 1) * k, 100)
        low, high = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
        table.append(low + (high - low) * part / 100)
    return tuple(table)


def interpolated(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """The value at ``x``, which lies in ``xs`` (rising), on the straight lines between the points."""
    above = min(max(bisect_left(xs, x), 1), len(xs) - 1)
    (x0, x1), (y0, y1) = xs[above - 1 : above + 1], ys[above - 1 : above + 1]
    if x == x1:
        return y1  # exactly, so that scores that equal a percentile are not below it
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def places_around(n: int, k: float, confidence: float = 0.95) -> tuple[int, int]:
    """Between which two of ``n`` scores in their order, 1 to n, the true ``k``-th percentile lies.

    From the binomial distribution of how many lie below it: exact, whatever their distribution. A place below 1 or
    above n says that the scores do not reach as far.
    """
    from scipy.special import bdtr

    def below(share: float) -> int:
        """The ``share``-quantile of how many of the scores lie below the percentile."""
        return bisect_left(range(n), share, key=lambda count: bdtr(count, n, k / 100))

    tail = (1 - confidence) / 2
    return below(tail), below(1 - tail) + 1


def rising(values: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(values, values[1:], strict=False))


def interval_text(interval: tuple[float, float], digits: int = 3) -> str:
    """An interval in words: "1.000 to 2.000", and where a side is open "below 2.000" or "above 1.000"."""
    low, high = interval
    if math.isinf(low) and math.isinf(high):
        return "anywhere"
    if math.isinf(low):
        return f"below {high:.{digits}f}"
    return f"above {low:.{digits}f}" if math.isinf(high) else f"{low:.{digits}f} to {high:.{digits}f}"
