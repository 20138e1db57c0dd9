"""Which images go to the teacher."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from .base import OracleError

MODES = ("fixed", "percentile", "worst_fraction")


@dataclass(frozen=True)
class Threshold:
    """A rule that rejects images by score: below ``value`` (fixed, percentile), or the worst ``fraction`` of a batch.

    ``expected_fraction`` is the share that it should reject, None if unknown; ``calibration`` names where ``value``
    comes from. Make one with :meth:`fixed`, :meth:`percentile` or :meth:`worst_fraction`.
    """

    mode: str
    value: float | None = None
    fraction: float | None = None
    expected_fraction: float | None = None
    calibration: str | None = None

    def __post_init__(self):
        if self.mode not in MODES:
            raise ValueError(f"threshold mode {self.mode!r} is not known; choose one of {', '.join(MODES)}")
        needed = "fraction" if self.mode == "worst_fraction" else "value"
        number = getattr(self, needed)
        if number is None or math.isnan(number):
            raise ValueError(f"a {self.mode} threshold needs a {needed}; got {number}")
        if self.mode == "worst_fraction" and not 0 <= self.fraction <= 1:
            raise ValueError(f"worst fraction is {self.fraction:g}; expected 0 to 1")

    @classmethod
    def fixed(cls, value: float, calibration=None) -> Threshold:
        """Reject scores below ``value``; a calibration, if given, says which share that should be."""
        if calibration is None:
            return cls("fixed", value=value)
        return cls(
            "fixed", value=value, expected_fraction=calibration.fraction_below(value), calibration=calibration.name
        )

    @classmethod
    def percentile(cls, calibration, k: float) -> Threshold:
        """Reject scores below the k-th percentile of the student's own scores, so about k % (Starodubcev et al.)."""
        value = calibration.value_at(k)
        return cls("percentile", value=value, expected_fraction=k / 100, calibration=calibration.name)

    @classmethod
    def worst_fraction(cls, fraction: float) -> Threshold:
        """Reject the worst ``round(fraction * B)`` images of each batch."""
        return cls("worst_fraction", fraction=fraction, expected_fraction=fraction)

    def cut(self, values: Iterable[float]) -> float:
        """The score below which this rule rejects in a batch with these ``values``."""
        if self.mode != "worst_fraction":
            return self.value
        ordered = sorted(values)
        worst = round(self.fraction * len(ordered))
        return ordered[worst] if worst < len(ordered) else math.inf

    def rejected(self, values: Iterable[float]) -> list[bool]:
        """One decision per score. Ties at the cut are kept; NaN raises :class:`OracleError` naming the image."""
        values = [float(value) for value in values]
        for index, value in enumerate(values):
            if math.isnan(value):
                raise OracleError(f"the score of image {index} is not a number (NaN)")
        cut = self.cut(values)
        return [value < cut for value in values]
