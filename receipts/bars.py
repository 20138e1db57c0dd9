"""Scores as a bar: where they lie, beside the threshold, on the distribution that they are measured by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from PIL import Image, ImageDraw

from ..lettering import length, write
from .looks import Look

BINS, RADIUS, HEIGHT, TEXT = 32, 8, 48, 22
Distribution = Sequence[tuple[float, float]]  # (score, percent of the scores below it), rising


class Scale(NamedTuple):
    """The scores at the two ends of a bar."""

    low: float
    high: float

    def place(self, score: float) -> float:
        """Where on the bar a score lies, 0 to 1; an infinite one at an end."""
        return min(max((score - self.low) / (self.high - self.low), 0.0), 1.0)


def scale_of(scores: Iterable[float | None], distribution: Distribution | None = None) -> Scale:
    """A scale that has room for all finite scores, and for a distribution's."""
    known = [score for score in scores if score is not None and math.isfinite(score)]
    known += [score for score, _ in distribution or ()]
    low, high = min(known, default=0.0), max(known, default=1.0)
    margin = 0.06 * (high - low) or 0.5
    return Scale(low - margin, high + margin)


def shares(distribution: Distribution, scale: Scale, bins: int = BINS) -> list[float]:
    """The percentage of a distribution's scores in each of ``bins`` equal parts of a scale.

    Between two of its percentiles scores are taken to be spread evenly.
    """
    result, width = [0.0] * bins, (scale.high - scale.low) / bins
    for (left, below), (right, upto) in pairwise(distribution):
        if left == right:
            result[min(int((left - scale.low) / width), bins - 1)] += upto - below
            continue
        for place in range(bins):
            start = scale.low + place * width
            overlap = min(right, start + width) - max(left, start)
            result[place] += (upto - below) * max(overlap, 0) / (right - left)
    return result


class Mark(NamedTuple):
    """A score on a bar: a ring for the student's, filled for what was made of it."""

    score: float
    colour: str
    filled: bool

    def draw(self, picture: Image.Image, x: float, y: float, inside: str) -> None:
        """Around a point; ``inside`` is a ring's."""
        box = x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS
        ImageDraw.Draw(picture).ellipse(box, self.colour if self.filled else inside, self.colour, 3)


@dataclass(frozen=True)
class Axis:
    """What all bars of one picture have in common.

    Behind the marks is the histogram of ``distribution`` or, without one, a tick for each of ``scores``.
    """

    scale: Scale
    distribution: Distribution | None
    scores: Sequence[float]
    look: Look

    def x(self, score: float, width: int) -> int:
        """Where a score is on a bar so wide."""
        return round(RADIUS + self.scale.place(score) * (width - 1 - 2 * RADIUS))

    def bar(self, marks: Sequence[Mark], threshold: float | None, width: int) -> Image.Image:
        """The marks, with a line from a ring to what was made of it, and the threshold with its number below."""
        look, ground = self.look, HEIGHT - RADIUS - 1
        picture = Image.new("RGB", (width, HEIGHT + (0 if threshold is None else round(1.3 * TEXT))), look.card)
        draw = ImageDraw.Draw(picture)
        draw.rectangle((0, 0, width, HEIGHT), look.page)
        if threshold is not None:
            draw.rectangle((0, 0, self.x(threshold, width), HEIGHT), look.rejected)
        if self.distribution:
            self._histogram(draw, width, ground)
        else:
            for score in self.scores:
                draw.line((self.x(score, width), 6, self.x(score, width), ground), look.line, 2)
        draw.line((0, ground, width, ground), look.line, 2)
        if threshold is not None:
            draw.line((self.x(threshold, width), 0, self.x(threshold, width), HEIGHT), look.ink, 2)
            said = f"threshold {number(threshold)}" if math.isfinite(threshold) else "threshold: all of them"
            half = length(said, TEXT) / 2
            middle = min(max(self.x(threshold, width), half), width - half)
            write(picture, (middle, HEIGHT + 2), said, TEXT, look.faint, "ma")
        places = [self.x(mark.score, width) for mark in marks]
        if len(marks) == 2 and marks[1].filled:
            draw.line((places[0], ground, places[1], ground), marks[1].colour, 5)
        for x, mark in zip(places, marks, strict=True):
            mark.draw(picture, x, ground, look.card)
        return picture

    def _histogram(self, draw: ImageDraw.ImageDraw, width: int, ground: int) -> None:
        parts = shares(self.distribution, self.scale)
        step = (width - 2 * RADIUS) / len(parts)
        for place, part in enumerate(parts):
            left, right = round(RADIUS + place * step), round(RADIUS + (place + 1) * step) - 1
            if top := round(part / max(parts) * (ground - 4)):
                draw.rectangle((left, ground - top, right, ground), self.look.line)


def number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"
