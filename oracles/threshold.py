"""Which images go to the teacher."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .budget import Budget
from .scores import refuse_nan
from .statistics import interpolated

if TYPE_CHECKING:
    from .calibration import Calibration

RANKED = ("worst_fraction", "worst_n")
NEEDED = {"fixed": "value", "percentile": "value", "budget": "value", "worst_fraction": "fraction", "worst_n": "n"}
LONE = (
    "worst_fraction compares the images of a batch, and a single image has no worst: it is not redone. "
    "percentile, fixed and budget work for one image"
)
ALL = (
    "worst_n compares the images of a batch, and sends all of one that has no more than {n}. "
    "percentile, fixed and budget work for images that are queued one at a time"
)


@dataclass(frozen=True)
class Threshold:
    """A rule that rejects images by score: below ``value`` (fixed, percentile, budget), or the worst of a batch,
    by their ``fraction`` or as many as ``n``.

    ``expected_fraction`` is the share that it should reject, None if unknown; ``calibration`` names where ``value``
    comes from, ``k`` is the percentile that was asked for, and ``budget_of`` the budget that it is of.
    ``distribution`` are the calibration's percentiles, as (score, percent) from its worst on, and ``worse`` those up to
    ``value``. Make one with :meth:`fixed`, :meth:`percentile`, :meth:`budget`, :meth:`worst_fraction` or
    :meth:`worst_n`. ``accepted`` says in which settings the scores at hand were made otherwise than the calibration's,
    where that is known and was accepted. ``table`` is the calibration itself.
    """

    mode: str
    value: float | None = None
    fraction: float | None = None
    expected_fraction: float | None = None
    calibration: str | None = None
    k: float | None = None
    worse: tuple[tuple[float, float], ...] | None = None
    accepted: tuple[str, ...] = ()
    n: int | None = None
    budget_of: Budget | None = None
    distribution: tuple[tuple[float, float], ...] | None = None
    table: Calibration | None = field(default=None, compare=False, repr=False)

    def __post_init__(self):
        if self.mode not in NEEDED:
            raise ValueError(f"threshold mode {self.mode!r} is not known; choose one of {', '.join(NEEDED)}")
        needed = NEEDED[self.mode]
        number = getattr(self, needed)
        if number is None or math.isnan(number):
            raise ValueError(f"a {self.mode} threshold needs a {needed}; got {number}")
        if self.mode == "worst_fraction" and not 0 <= self.fraction <= 1:
            raise ValueError(f"worst fraction is {self.fraction:g}; expected 0 to 1")
        if self.mode == "worst_n" and self.n < 0:
            raise ValueError(f"worst n is {self.n}; expected 0 or more images")

    @classmethod
    def fixed(cls, value: float, calibration=None) -> Threshold:
        """Reject scores below ``value``; a calibration, if given, says which share that should be."""
        if calibration is None:
            return cls("fixed", value=value)
        return cls("fixed", value=value, **_measured(calibration, value))

    @classmethod
    def percentile(cls, calibration, k: float) -> Threshold:
        """Reject scores below the k-th percentile of the student's own scores (Starodubcev et al.).

        That is about k % of them, and less where several scores equal the percentile: they are kept.
        """
        value = calibration.value_at(k)
        return cls("percentile", value=value, k=k, **_measured(calibration, value))

    @classmethod
    def budget(cls, calibration, budget: Budget) -> Threshold:
        """Reject the worst images that a budget pays for; never more of the calibration's, whatever scores are equal.

        Where it pays for all, the threshold is infinite. Raises as :meth:`Calibration.value_at` for what a bare table
        does not reach.
        """
        share = budget.share
        value = calibration.value_of_share(share) if share < 1 else math.inf
        return cls("budget", value=value, k=100 * share, budget_of=budget, **_measured(calibration, value))

    @classmethod
    def worst_fraction(cls, fraction: float) -> Threshold:
        """Reject the worst ``round(fraction * B)`` images of each batch, and at least one of two or more.

        Of equal scores the first go. A single image has no worst: it is rejected only at fraction 1, which is all.
        """
        return cls("worst_fraction", fraction=fraction, expected_fraction=fraction)

    @classmethod
    def worst_n(cls, n: int) -> Threshold:
        """Reject the ``n`` worst images of each batch, all of one that has no more. Of equal scores the first go."""
        return cls("worst_n", n=n)

    @property
    def rule(self) -> str:
        """The rule in words: "the worst 25 %", or "scores below 0.500" and which share of a calibration's they are."""
        if self.mode == "worst_fraction":
            return f"the worst {percent_text(self.fraction)}"
        if self.mode == "worst_n":
            return f"the worst {self.n}"
        if self.value == math.inf:
            return f"all images ({self.budget_of.rule})"
        text = f"scores below {self.value:.3f}"
        if self.calibration is not None:
            text += f", which are {percent_text(self.expected_fraction)} of calibration {self.calibration!r}"
        if self.k is not None:
            text += f" (percentile {round(self.k, 2):g})"
        return text if self.budget_of is None else f"{text}; {self.budget_of.rule}"

    def remark(self, count: int) -> str | None:
        """What a user should know who applies this rule to ``count`` images; None: nothing."""
        if self.mode == "worst_fraction" and count == 1 and 0 < self.fraction < 1:
            return LONE
        if self.mode == "worst_n" and 0 < count <= self.n:
            return ALL.format(n=self.n)
        if self.accepted:
            differ = "; ".join(self.accepted)
            return f"calibration {self.calibration!r} was made with other settings, which was accepted: {differ}"
        return None

    def require_oracle(self, fingerprint: str | None, family: str | None) -> None:
        """Raise CalibrationMismatch for scores of another oracle than the calibration's, which are other numbers.

        fingerprint, family: as of :class:`Scores`.
        """
        if self.table is not None:
            self.table.require(self.table.settings, fingerprint or "", family)

    def cut(self, values: Iterable[float]) -> float | None:
        """The score that divides a batch with these ``values``: those below it are rejected, the others kept.

        None where no score does: the worst part holds all or none of them, or some of several equal scores.
        """
        if self.mode not in RANKED:
            return self.value
        values = [float(value) for value in values]
        flags = self.rejected(values)
        if all(flags) or not any(flags):
            return None
        worst, best = (
            [value for value, flag in zip(values, flags, strict=True) if flag is rejected] for rejected in (True, False)
        )
        return min(best) if max(worst) < min(best) else None

    def rejected(self, values: Iterable[float]) -> list[bool]:
        """One decision per score; NaN raises :class:`OracleError` naming the image.

        Scores that equal ``value`` are kept. The worst part goes by rank, and of equal scores the first go.
        """
        values = [float(value) for value in values]
        refuse_nan(values, range(len(values)))
        if self.mode not in RANKED:
            return [value < self.value for value in values]
        worst = set(sorted(range(len(values)), key=values.__getitem__)[: self._count(len(values))])
        return [index in worst for index in range(len(values))]

    def badness(self, values: Iterable[float]) -> list[float]:
        """How far below the threshold each score lies, in the calibration's percentiles: 0 at ``value`` and above, 1 at
        the calibration's worst and below, and by the percent of its scores in between. It depends on no other score.

        Raises ValueError for a threshold without a calibration, which has no worst score to measure by.
        """
        if self.worse is None:
            raise ValueError(
                f"how bad a score is, is measured in a calibration's percentiles, and this threshold ({self.rule}) has "
                "none: take one of mode percentile or budget"
            )
        scores, percents = zip(*self.worse, strict=True)

        def one(value: float) -> float:
            if value >= self.value or value <= scores[0] or len(scores) == 1:
                return float(value < self.value)
            return (percents[-1] - interpolated(value, scores, percents)) / (percents[-1] - percents[0])

        return [one(float(value)) for value in values]

    def _count(self, images: int) -> int:
        """How many of so many images are the worst part."""
        if self.mode == "worst_n":
            return self.n
        if images == 1 or self.fraction == 0:
            return images if self.fraction == 1 else 0
        return max(1, round(self.fraction * images))


def _measured(calibration, value: float) -> dict:
    """What a calibration says of a score: which share is below it, its percentiles, and those below that score, and
    then that score."""
    distribution = tuple(zip(calibration.percentiles, calibration.levels, strict=True))
    below = (each for each in distribution if each[0] < value)
    return {
        "table": calibration,
        "expected_fraction": calibration.share_below(value),
        "calibration": calibration.name,
        "distribution": distribution,
        "worse": (*below, (value, 100 * calibration.fraction_below(value))),
    }


def percent_text(fraction: float) -> str:
    """A fraction in words: "30 %", "2.5 %"."""
    return f"{round(100 * fraction, 1):g} %"
