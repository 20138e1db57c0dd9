"""What the panel, or an API request, asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

WORST, PERCENTILE, SCORE = "worst share of the job", "below percentile", "below score"
RULES = (WORST, PERCENTILE, SCORE)
SAME = "same checkpoint"
NONE = "none"
AUTOMATIC = "Automatic"


class RefusedChoice(ValueError):
    """A choice that cannot be honoured, with what to do instead."""


@dataclass
class Choices:
    """In the order of the panel's components and of an API request's ``args``, which may be fewer.

    oracle: a file in models/oracles. share: percent of the job's images. calibration: whose percentile. teacher: SAME
    or a checkpoint's title. remove: what is taken off the teacher's prompt, separated by commas; * is any text. noise:
    how far back the teacher goes, as the noise's share of the variance.
    """

    enabled: bool = False
    oracle: str = NONE
    rule: str = WORST
    share: float = 30.0
    percentile: float = 30.0
    calibration: str = NONE
    score: float = 0.0
    teacher: str = SAME
    remove: str = "<lora:*lcm*>"
    steps: int = 20
    cfg: float = 7.0
    sampler: str = "DPM++ 2M"
    scheduler: str = AUTOMATIC
    noise: float = 0.6
    keep_better: bool = True
    save_student: bool = False

    @classmethod
    def of(cls, values: Sequence) -> Choices:
        """From the panel's values, in order; an API request's may be fewer. Raises RefusedChoice."""
        return cls(*values[: len(fields(cls))]).checked()

    def checked(self) -> Choices:
        """Itself. Raises RefusedChoice for values out of their range."""
        if not self.enabled:
            return self
        if self.rule not in RULES:
            raise RefusedChoice(f"the rule is {self.rule!r}; expected one of {', '.join(RULES)}")
        for name, low, high in (("share", 0, 100), ("percentile", 0, 100), ("steps", 1, 150), ("cfg", 0, 100)):
            if not low <= float(getattr(self, name)) <= high:
                raise RefusedChoice(f"{name} is {getattr(self, name)}; expected {low} to {high}")
        if not 0 < float(self.noise) < 1:
            raise RefusedChoice(f"noise is {self.noise}; expected more than 0 and less than 1")
        if self.oracle in (NONE, "", None):
            raise RefusedChoice("no oracle is chosen: put one into models/oracles and choose it in the panel")
        if self.rule == PERCENTILE and self.calibration in (NONE, "", None):
            raise RefusedChoice("'below percentile' needs a calibration: choose one, or another rule")
        self.steps = int(self.steps)
        return self
