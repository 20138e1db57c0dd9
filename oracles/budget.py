"""How many images a budget of network evaluations lets the teacher redo."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """At most ``evaluations`` an image, on average: ``student`` for each, and ``teacher`` more for each redone one.

    All three are network evaluations an image, so that what is redone never depends on a clock. A student that is tried
    more than once costs what its tries do on average. Raises ValueError for numbers that are not above zero, and for a
    budget that the student alone exceeds.
    """

    evaluations: float
    student: float
    teacher: float

    def __post_init__(self):
        for name, number in (("student", self.student), ("teacher", self.teacher)):
            if not 0 < number < math.inf:
                raise ValueError(f"the {name}'s evaluations an image are {number:g}; expected a number above 0")
        if not self.student <= self.evaluations:
            raise ValueError(
                f"budget is {self.evaluations:g} evaluations an image, and the student alone takes {self.student:g}; "
                f"give at least {self.student:g}, or take a student of fewer steps"
            )

    @property
    def share(self) -> float:
        """The largest share of the images, 0 to 1, that may be redone."""
        return min(1.0, (self.evaluations - self.student) / self.teacher)

    def spent(self, share: float) -> float:
        """The evaluations an image, on average, if this share of them is redone."""
        return self.student + share * self.teacher

    @property
    def rule(self) -> str:
        """The budget in words: "budget 12: 4 for each student, 40 for each redone"."""
        text = f"budget {self.evaluations:g}: {self.student:g} for each student, {self.teacher:g} for each redone"
        whole = self.spent(1)
        return text if self.evaluations <= whole else f"{text}, and no more than {whole:g} can be spent"
