"""What the panel, or an API request, asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

WORST, PERCENTILE, SCORE, BUDGET = "worst share of the job", "below percentile", "below score", "budget"
RULES = (WORST, PERCENTILE, SCORE, BUDGET)
# Of the fields below, those that a rule reads.
USES = {
    WORST: {"share"},
    PERCENTILE: {"percentile", "calibration"},
    SCORE: {"score"},
    BUDGET: {"budget", "calibration"},
}
BY_CALIBRATION = tuple(rule for rule in RULES if "calibration" in USES[rule])
SAME = "same checkpoint"
NONE = "none"
AUTOMATIC = "Automatic"
RANGES = (
    ("share", 0, 100),
    ("percentile", 0, 100),
    ("steps", 1, 150),
    ("cfg", 0, 100),
    ("score", -1e6, 1e6),
    ("budget", 1, 1000),
    ("best_of", 1, 16),
)


def unused(rule: str) -> set[str]:
    """The fields of other rules."""
    return set().union(*USES.values()) - USES[rule]


class RefusedChoice(ValueError):
    """A choice that cannot be honoured, with what to do instead."""


@dataclass
class Choices:
    """In the order of the panel's components and of an API request's ``args``, which may be fewer.

    oracle: a file in models/oracles. share: percent of the job's images. calibration: whose percentile. budget: network
    evaluations an image, on average. best_of: the student's tries at an image. teacher: SAME or a checkpoint's title.
    remove: what is taken off the teacher's prompt, separated by commas; * is any text. noise: how far back the teacher
    goes, as the noise's share of the variance. modules: the teacher's VAE and text encoders where the host has
    files for them. control: whether the teacher keeps the job's ControlNet. receipt: a report picture at the
    gallery's end. record: the calibration that the student's scores are added to, begun where there is none.
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
    budget: float = 12.0
    best_of: int = 1
    modules: Sequence[str] = ()
    control: bool = True
    receipt: bool = False
    record: str = ""

    @classmethod
    def of(cls, values: Sequence) -> Choices:
        """From the panel's values in order, or from the first alone: a mapping of names. Raises RefusedChoice.

        An API request's may be fewer; by name, what is not named is as in a new panel.
        """
        if not values or not isinstance(values[0], Mapping):
            return cls(*values[: len(fields(cls))]).checked()
        known = [field.name for field in fields(cls)]
        if unknown := [str(name) for name in values[0] if name not in known]:
            raise RefusedChoice(f"there is no {unknown[0]!r}; expected names of {', '.join(known)}")
        return cls(**values[0]).checked()

    def checked(self) -> Choices:
        """Itself, with texts of numbers as numbers and no list as an empty one.

        Raises RefusedChoice for what its rule cannot use.
        """
        self._of_its_kind("enabled")
        if not self.enabled:
            return self
        if self.rule not in RULES:
            raise RefusedChoice(f"the rule is {self.rule!r}; expected one of {', '.join(RULES)}")
        for field in fields(self):
            setattr(self, field.name, self._of_its_kind(field.name))
        for name in ("noise", *(name for name, _, _ in RANGES if name not in unused(self.rule))):
            setattr(self, name, self._number(name))
        for name, low, high in RANGES:
            if name not in unused(self.rule) and not low <= getattr(self, name) <= high:
                raise RefusedChoice(f"{name} is {getattr(self, name)}; expected {low:g} to {high:g}")
        if not 0 < self.noise < 1:
            raise RefusedChoice(f"noise is {self.noise}; expected more than 0 and less than 1")
        if self.oracle in (NONE, "", None):
            raise RefusedChoice("no oracle is chosen: put one into models/oracles and choose it in the panel")
        if self.rule in BY_CALIBRATION and self.calibration in (NONE, "", None):
            raise RefusedChoice(f"{self.rule!r} needs a calibration: choose one, or another rule")
        return self

    def _of_its_kind(self, name: str):
        """A value that is a switch, a text or a list of names where it has to be. The page's empty list is None."""
        value, default = getattr(self, name), getattr(Choices, name)
        if isinstance(default, bool) and not isinstance(value, bool):
            raise RefusedChoice(f"{name} is {value!r}; expected true or false")
        if isinstance(default, str) and not isinstance(value, str if default != NONE else str | None):
            raise RefusedChoice(f"{name} is {value!r}; expected a text")
        if isinstance(default, tuple):
            value = () if value is None else value
            if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
                raise RefusedChoice(f"{name} is {value!r}; expected a list of names")
        return value

    def _number(self, name: str) -> float:
        """A value, or a text's, as a number, and as a whole one where the default is."""
        value, whole = getattr(self, name), isinstance(getattr(Choices, name), int)
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if math.isnan(number):
            raise RefusedChoice(f"{name} is {value!r}; expected a number")
        if whole and not number.is_integer():
            raise RefusedChoice(f"{name} is {value}; expected a whole number")
        return int(number) if whole else number
