"""A calibration as a picture: how its scores lie, and its percentiles with what is known of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

from ..lettering import drawable, length, shortened, write
from ..oracles.calibration import Calibration
from ..samplers.decisions import REFINED
from .bars import Scale, shares
from .looks import DARK, Look
from .numbers import number

WIDTH, HEIGHT, MARGIN, TEXT, BINS = 720, 440, 28, 22, 36
TOP, GROUND = 124, HEIGHT - 84  # where the highest bar ends, and on what all stand


def histogram(
    calibration: Calibration, percentiles: Sequence[float] = (), sure: bool = False, look: Look = DARK
) -> Image.Image:
    """The calibration's scores in bars, with a line at each of these percentiles, which it must know.

    sure: with where each percentile lies at 95 % confidence, as a band under it. Raises CalibrationError without any
    score.
    """
    accent = look.decisions[REFINED]
    distribution = list(zip(calibration.percentiles, calibration.levels, strict=True))
    low, high = distribution[0][0], distribution[-1][0]
    if low == high:
        low, high = low - 0.5, high + 0.5
    picture = Image.new("RGB", (WIDTH, HEIGHT), look.page)
    draw = ImageDraw.Draw(picture)

    def x(score: float) -> int:
        inside = min(max((score - low) / (high - low), 0), 1)
        return round(MARGIN + inside * (WIDTH - 1 - 2 * MARGIN))

    name = calibration.name if drawable(calibration.name) else "calibration"
    write(picture, (MARGIN, MARGIN - 6), shortened(name, TEXT * 1.3, WIDTH - 2 * MARGIN), TEXT * 1.3, look.ink)
    band = "; bands: 95 % confidence" if sure and percentiles else ""
    write(picture, (MARGIN, MARGIN + 30), _count(calibration) + band, TEXT, look.faint)
    marks = [(k, calibration.value_at(k)) for k in percentiles]
    for k, _ in marks if sure else ():
        left, right = (x(score) for score in calibration.interval(k))
        draw.rectangle((left, GROUND + 3, right, GROUND + 9), accent)
    parts = shares(distribution, Scale(low, high), BINS)
    for place, part in enumerate(parts):
        left, right = (x(low + (place + end) * (high - low) / BINS) for end in (0, 1))
        if top := round(part / max(parts) * (GROUND - TOP)):
            draw.rectangle((left, GROUND - top, right - 1, GROUND), look.line)
    draw.line((MARGIN, GROUND, WIDTH - MARGIN, GROUND), look.faint, 2)
    free = {TOP - 26: -math.inf, GROUND + 14: -math.inf}  # from where on each of the two rows of labels is
    for k, score in marks:
        draw.line((x(score), TOP, x(score), GROUND), accent, 3)
        for row, text, colour in ((TOP - 26, f"{k:g} %", accent), (GROUND + 14, number(score), look.ink)):
            half = length(text, TEXT) / 2
            middle = min(max(x(score), MARGIN + half), WIDTH - MARGIN - half)
            if middle - half >= free[row]:
                write(picture, (middle, row), text, TEXT, colour, "ma")
                free[row] = middle + half + 8
    write(picture, (MARGIN, GROUND + 46), number(low), TEXT, look.faint)
    write(picture, (WIDTH - MARGIN, GROUND + 46), number(high), TEXT, look.faint, "ra")
    return picture


def _count(calibration: Calibration) -> str:
    count = "a number of scores that is not known" if calibration.n is None else f"scores: {calibration.n}"
    return count if calibration.scores_by_image else f"{count}, as percentiles"
