"""A picture of a job, and what its text says of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from ..samplers import decisions
from . import infotext
from .sources import Picture


@dataclass(eq=False)
class Entry:
    """A picture of the job, and what became of it.

    teacher: the teacher's pixels [3, H, W] in [0, 1] that took its place; put_back: those that did not, the student's
    being better; without: what the teacher had not. evaluations: the networks', all tries together, None where they are
    not known; by_teacher: those of the teacher among them. tries: how many students it was chosen from, the first of
    which had first_seed. image: the host's own object, once it is made; place: which of the job's pictures that was;
    file: where the host saved it, with saved_text.
    """

    picture: Picture
    decision: str = decisions.KEPT
    score_after: float | None = None
    sigma: float | None = None
    without: str = ""
    teacher: torch.Tensor | None = None
    put_back: torch.Tensor | None = None
    evaluations: float | None = None
    by_teacher: float | None = 0
    tries: int = 1
    first_seed: int | None = None
    image: object = None
    place: int | None = None
    file: Path | None = None
    saved_text: str = ""

    @property
    def scored(self) -> bool:
        return not math.isnan(self.picture.score)

    def keys(self) -> dict[str, str]:
        found = {infotext.DECISION: self.decision}
        numbers = {infotext.SCORE: self.picture.score, infotext.SCORE_AFTER: self.score_after}
        numbers |= {infotext.SIGMA: self.sigma, infotext.EVALUATIONS: self.evaluations}
        for key, value in numbers.items():
            if value is not None and not math.isnan(value):
                found[key] = infotext.number(value)
        if self.without:
            found[infotext.WITHOUT] = self.without
        if self.tries > 1:
            found[infotext.TRIES] = str(self.tries)
        if self.first_seed is not None:
            found[infotext.FIRST_SEED] = str(self.first_seed)
        return found

    def release(self) -> None:
        """Let go of what is large; its text may still be asked for."""
        self.picture.pixels = self.picture.latent = self.picture.frame = None
        self.image = self.teacher = self.put_back = None
