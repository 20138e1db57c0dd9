"""What the measurements under a source or a condition share: figures of each scene, their means and differences."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from adaptive import Bootstrap


@dataclass(frozen=True)
class Outcome:
    """Of each scene [N]: exact or not, evaluations; subclasses have more figures."""

    exact: np.ndarray
    evaluations: np.ndarray

    def where(self, mask: np.ndarray, other: Self) -> Self:
        """``other`` where the mask holds, with its evaluations on top of these; this outcome elsewhere."""
        names = [field.name for field in fields(self) if field.name != "evaluations"]
        chosen = {name: np.where(mask, getattr(other, name), getattr(self, name)) for name in names}
        return type(self)(**chosen, evaluations=self.evaluations + mask * other.evaluations)


def summary(outcome: Outcome, figures: tuple[str, ...], bootstrap: Bootstrap) -> dict:
    """The mean of each figure with its 95 % interval."""
    found = {"evaluations": round(float(outcome.evaluations.mean()), 3)}
    for name in figures:
        values = getattr(outcome, name).astype(float)
        found[name] = {"mean": round(float(values.mean()), 4), "ci": bootstrap.interval(values)}
    return found


def less(one: Outcome, other: Outcome, figures: tuple[str, ...], bootstrap: Bootstrap) -> dict:
    """The first less the second, on the same scenes."""
    found = {}
    for name in figures:
        difference = getattr(one, name).astype(float) - getattr(other, name)
        found[name] = {"difference": round(float(difference.mean()), 4), "ci": bootstrap.interval(difference)}
    return found
