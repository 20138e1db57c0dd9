"""Scores as a bar: where they lie, beside the threshold, on the distribution that they are measured by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from PIL import Image, ImageDraw

from ..lettering import length, write
from .letters import LINE, fitted
from .looks import Look
from .numbers import number

BINS, RADIUS, HEIGHT, BREAK = 32, 11, 52, 3
QUARTILES, FENCE = (25, 75), 1.5  # Tukey's: what is more than 1.5 times the quartiles' distance beyond them is far
TAIL = 1 / 18  # of that even part: how much a tail may take, so that both have a tenth of the bar at most
Distribution = Sequence[tuple[float, float]]  # (score, percent of the scores below it), rising


class Scale(NamedTuple):
    """Where scores are on a bar: evenly from ``low`` to ``high``, and what lies beyond in tails at its two ends.

    below, above: how far scores go beyond, in ranges from low to high; a long tail is squeezed.
    """

    low: float
    high: float
    below: float = 0.0
    above: float = 0.0

    def place(self, score: float) -> float:
        """Where on the bar a score lies, 0 to 1; one beyond the tails at an end."""
        left, right = min(self.below, TAIL), min(self.above, TAIL)
        place = (score - self.low) / (self.high - self.low)
        if place < 0:
            place = left * max(place / self.below, -1) if left else 0
        elif place > 1:
            place = 1 + right * min((place - 1) / self.above, 1) if right else 1
        return (left + place) / (left + 1 + right)

    @property
    def breaks(self) -> list[float]:
        """The scores at which a squeezed tail begins."""
        return [end for end, tail in ((self.low, self.below), (self.high, self.above)) if tail > TAIL]


def scale_of(
    scores: Iterable[float | None], thresholds: Iterable[float | None] = (), distribution: Distribution | None = None
) -> Scale:
    """A scale that has room for all that is finite, and for a distribution's scores.

    With a distribution, what is not far out and the thresholds lie on the even part, so that scores near the threshold
    can be told apart whatever is far away; without one, everything does.
    """
    cuts, known = ([x for x in given if x is not None and math.isfinite(x)] for given in (thresholds, scores))
    known += [*cuts, *(score for score, _ in distribution or ())]
    middle = [*cuts, *_fences(distribution)] if distribution else known
    low, high = min(middle, default=0.0), max(middle, default=1.0)
    margin = 0.06 * (high - low) or 0.5
    low, high = low - margin, high + margin
    first, last = min(known, default=low), max(known, default=high)
    return Scale(low, high, max(low - first, 0) / (high - low), max(last - high, 0) / (high - low))


def _fences(distribution: Distribution) -> tuple[float, float]:
    """The scores beyond which a distribution's tails are far, or its ends where they are not."""
    import numpy

    values, levels = zip(*distribution, strict=True)
    low, high = numpy.interp(QUARTILES, levels, values).tolist()
    reach = FENCE * (high - low)
    return max(values[0], low - reach), min(values[-1], high + reach)


def shares(distribution: Distribution, scale: Scale, bins: int = BINS) -> list[float]:
    """The percentage of a distribution's scores in each of ``bins`` equal parts of a bar.

    Between two of its percentiles scores are taken to be spread evenly.
    """
    result = [0.0] * bins
    places = [(bins * scale.place(score), percent) for score, percent in distribution]
    for (left, below), (right, upto) in pairwise(places):
        if left == right:
            result[min(int(left), bins - 1)] += upto - below
            continue
        for place in range(bins):
            overlap = min(right, place + 1) - max(left, place)
            result[place] += (upto - below) * max(overlap, 0) / (right - left)
    return result


def threshold_in_words(threshold: float) -> str:
    return f"threshold {number(threshold)}" if math.isfinite(threshold) else "threshold: all of them"


class Mark(NamedTuple):
    """A score on a bar: a ring for the student's, filled for what was made of it."""

    score: float
    colour: str
    filled: bool

    def draw(self, picture: Image.Image, x: float, y: float, inside: str) -> None:
        """Around a point; ``inside`` is a ring's."""
        box = x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS
        ImageDraw.Draw(picture).ellipse(box, self.colour if self.filled else inside, self.colour, 4)


@dataclass(frozen=True)
class Axis:
    """What all bars of one picture have in common.

    Behind the marks is the histogram of ``distribution`` or, without one, a tick for each of ``scores``. ``text``: the
    size of what is written below.
    """

    scale: Scale
    distribution: Distribution | None
    scores: Sequence[float]
    look: Look
    text: int

    def x(self, score: float, width: int) -> int:
        """Where a score is on a bar so wide."""
        return round(RADIUS + self.scale.place(score) * (width - 1 - 2 * RADIUS))

    def bar(self, marks: Sequence[Mark], threshold: float | None, width: int, told: bool = True) -> Image.Image:
        """The marks, with a line from a ring to what was made of it, and the threshold, if ``told`` with its number
        below."""
        look, ground = self.look, HEIGHT - RADIUS - 1
        told = told and threshold is not None
        picture = Image.new("RGB", (width, HEIGHT + (round(LINE * self.text) if told else 0)), look.card)
        draw = ImageDraw.Draw(picture)
        draw.rectangle((0, 0, width, HEIGHT), look.page)
        if threshold is not None:
            draw.rectangle((0, 0, self.x(threshold, width), HEIGHT), look.rejected)
        if self.distribution:
            self._histogram(draw, width, ground)
        else:
            for score in self.scores:
                draw.line((self.x(score, width), 6, self.x(score, width), ground), look.line, 2)
        self._base(draw, width, ground)
        if threshold is not None:
            draw.line((self.x(threshold, width), 0, self.x(threshold, width), HEIGHT), look.ink, 2)
        if told:
            said = threshold_in_words(threshold)
            size = fitted(said, self.text, width)
            half = length(said, size) / 2
            middle = min(max(self.x(threshold, width), half), width - half)
            write(picture, (middle, HEIGHT + 2), said, size, look.faint, "ma")
        places = [self.x(mark.score, width) for mark in marks]
        if len(marks) == 2 and marks[1].filled:
            draw.line((places[0], ground, places[1], ground), marks[1].colour, 5)
        for x, mark in zip(places, marks, strict=True):
            mark.draw(picture, x, ground, look.card)
        return picture

    def _base(self, draw: ImageDraw.ImageDraw, width: int, ground: int) -> None:
        """The line that the marks stand on, broken where a tail begins."""
        breaks = [self.x(score, width) for score in self.scale.breaks]
        starts, ends = [0, *(x + BREAK for x in breaks)], [*(x - BREAK for x in breaks), width]
        for start, end in zip(starts, ends, strict=True):
            draw.line((start, ground, end, ground), self.look.line, 2)
        for x in breaks:
            draw.line((x - BREAK, ground + 2 * BREAK, x + BREAK, ground - 2 * BREAK), self.look.faint, 2)

    def _histogram(self, draw: ImageDraw.ImageDraw, width: int, ground: int) -> None:
        parts = shares(self.distribution, self.scale)
        step = (width - 2 * RADIUS) / len(parts)
        for place, part in enumerate(parts):
            left, right = round(RADIUS + place * step), round(RADIUS + (place + 1) * step) - 1
            if top := round(part / max(parts) * (ground - 4)):
                draw.rectangle((left, ground - top, right, ground), self.look.line)
