"""A calibration as a picture: how its scores lie, and its percentiles with what is known of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from PIL import Image, ImageDraw

from ..lettering import drawable, length, shortened, write
from ..oracles.calibration import Calibration

WIDTH, HEIGHT, MARGIN, TEXT, BINS = 720, 440, 28, 22, 36
PAGE, INK, FAINT, BAR, LINE, SURE = "#f4f4f1", "#1d1d1b", "#6b6b66", "#b9c6d3", "#b3541e", "#d98f66"
TOP, GROUND = 124, HEIGHT - 84  # where the highest bar ends, and on what all stand


def histogram(calibration: Calibration, percentiles: Sequence[float] = (), sure: bool = False) -> Image.Image:
    """The calibration's scores in bars, with a line at each of these percentiles, which it must know.

    sure: with where each percentile lies at 95 % confidence, as a band under it. Raises CalibrationError without any
    score.
    """
    distribution = list(zip(calibration.percentiles, calibration.levels, strict=True))
    low, high = distribution[0][0], distribution[-1][0]
    if low == high:
        low, high = low - 0.5, high + 0.5
    picture = Image.new("RGB", (WIDTH, HEIGHT), PAGE)
    draw = ImageDraw.Draw(picture)

    def x(score: float) -> int:
        inside = min(max((score - low) / (high - low), 0), 1)
        return round(MARGIN + inside * (WIDTH - 1 - 2 * MARGIN))

    name = calibration.name if drawable(calibration.name) else "calibration"
    write(picture, (MARGIN, MARGIN - 6), shortened(name, TEXT * 1.3, WIDTH - 2 * MARGIN), TEXT * 1.3, INK)
    band = "; bands: each percentile at 95 % confidence" if sure and percentiles else ""
    write(picture, (MARGIN, MARGIN + 30), _count(calibration) + band, TEXT, FAINT)
    marks = [(k, calibration.value_at(k)) for k in percentiles]
    for k, _ in marks if sure else ():
        left, right = (x(score) for score in calibration.interval(k))
        draw.rectangle((left, GROUND + 3, right, GROUND + 9), SURE)
    parts = shares(distribution, low, high)
    for place, part in enumerate(parts):
        left, right = (x(low + (place + end) * (high - low) / BINS) for end in (0, 1))
        if top := round(part / max(parts) * (GROUND - TOP)):
            draw.rectangle((left, GROUND - top, right - 1, GROUND), BAR)
    draw.line((MARGIN, GROUND, WIDTH - MARGIN, GROUND), FAINT, 2)
    free = {TOP - 26: -math.inf, GROUND + 14: -math.inf}  # from where on each of the two rows of labels is
    for k, score in marks:
        draw.line((x(score), TOP, x(score), GROUND), LINE, 3)
        for row, text, colour in ((TOP - 26, f"{k:g} %", LINE), (GROUND + 14, number(score), INK)):
            half = length(text, TEXT) / 2
            middle = min(max(x(score), MARGIN + half), WIDTH - MARGIN - half)
            if middle - half >= free[row]:
                write(picture, (middle, row), text, TEXT, colour, "ma")
                free[row] = middle + half + 8
    write(picture, (MARGIN, GROUND + 46), number(low), TEXT, FAINT)
    write(picture, (WIDTH - MARGIN, GROUND + 46), number(high), TEXT, FAINT, "ra")
    return picture


def shares(distribution: Sequence[tuple[float, float]], low: float, high: float, bins: int = BINS) -> list[float]:
    """The percentage of the scores in each of ``bins`` equal parts of ``low`` to ``high``.

    distribution: percentiles, as (score, percent) and rising; between two of them scores are taken to be spread evenly.
    """
    found, width = [0.0] * bins, (high - low) / bins
    for (left, below), (right, up_to) in pairwise(distribution):
        if left == right:
            found[min(int((left - low) / width), bins - 1)] += up_to - below
            continue
        for place in range(bins):
            overlap = min(right, low + (place + 1) * width) - max(left, low + place * width)
            found[place] += (up_to - below) * max(overlap, 0) / (right - left)
    return found


def _count(calibration: Calibration) -> str:
    count = "a number of scores that is not known" if calibration.n is None else f"scores: {calibration.n}"
    return count if calibration.scores_by_image else f"{count} (their percentiles)"


def number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"
