"""The demo family on held-out scenes, for bench/adaptive.py. What is made is kept, so that a stopped run goes on."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from understudy.demo_family import checker, family
from understudy.demo_family.scenes import scenes_of
from understudy.distill_train.data.randomness import generator
from understudy.oracles import load_oracle
from understudy.pipelines.demo import FOLDER, DemoModel
from understudy.pipelines.model import StudentPlan, TeacherPlan, draw, redo
from understudy.samplers.best_of import seed_of_try

SIZE, BATCH = (64, 64), 256
TEACHER_STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 25)
CFG = 3.0


@dataclass(frozen=True)
class Outcome:
    """What a method made of each scene: exact or not [N], the oracle's score [N], evaluations [N], all told.

    ``attempt`` [N] is the place, from 0, of the student's try that it kept or began from.
    """

    exact: np.ndarray
    scores: np.ndarray
    evaluations: np.ndarray
    attempt: np.ndarray

    def where(self, mask: np.ndarray, other: "Outcome") -> "Outcome":
        """``other`` where the mask holds, with its evaluations on top of these; this outcome elsewhere."""
        return self.took(mask, other, mask)

    def better(self, mask: np.ndarray, other: "Outcome") -> "Outcome":
        """As ``where``, but of the two the one with the higher score, and this one of equals (as Keep Better does)."""
        return self.took(mask, other, mask & (other.scores > self.scores))

    def took(self, mask: np.ndarray, other: "Outcome", taken: np.ndarray) -> "Outcome":
        return Outcome(
            np.where(taken, other.exact, self.exact),
            np.where(taken, other.scores, self.scores),
            self.evaluations + mask * other.evaluations,
            np.where(taken, other.attempt, self.attempt),
        )


class Kept:
    """What was made under one name, scene by scene, in a file that a later run goes on with."""

    def __init__(self, path: Path, count: int):
        self.path = path
        self.made, self.exact = np.zeros(count, bool), np.zeros(count, bool)
        self.scores, self.evaluations = np.zeros(count, np.float32), np.zeros(count, np.int64)
        if path.exists():
            with np.load(path) as file:
                self.made, self.exact, self.scores, self.evaluations = (file[name] for name in file.files)

    def put(self, at: np.ndarray, exact: list[bool], scores: torch.Tensor, evaluations: int) -> None:
        self.made[at], self.exact[at], self.scores[at], self.evaluations[at] = True, exact, scores.numpy(), evaluations
        partial = self.path.with_suffix(f".{os.getpid()}")  # two runs may be at it
        with partial.open("wb") as file:
            np.savez(file, self.made, self.exact, self.scores, self.evaluations)
        partial.replace(self.path)


class Stage:
    """The demo family on the first ``count`` scenes of one split; everything that is drawn twice is drawn once.

    ``wanted`` masks [N] say which scenes a method is needed of; the others' entries mean nothing.
    """

    def __init__(self, split: str, count: int, device: str, work: Path):
        scenes = scenes_of(split)
        order = torch.randperm(len(scenes), generator=generator("bench", split))
        self.whole = len(scenes)
        self.scenes = [scenes[i] for i in order[:count]]
        self.prompts = [str(scene) for scene in self.scenes]
        self.everyone = np.ones(len(self.scenes), bool)
        self.models = {p: DemoModel(family.load(p, device), torch.device(device)) for p in ("student", "teacher")}
        for model in self.models.values():
            model.part.vae.to(memory_format=torch.channels_last)  # a third faster on a CPU, where decoding is the most
        self.oracle = load_oracle(FOLDER / "oracle.safetensors", "demo", device=device)
        self.work = work / split
        self.work.mkdir(parents=True, exist_ok=True)
        self.kept: dict[str, Kept] = {}
        self.pictures: dict[tuple[int, int], torch.Tensor] = {}  # first tries, by steps and scene

    def student(self, steps: int, attempt: int = 0, wanted: np.ndarray | None = None) -> Outcome:
        """One try of the student, the first with seed i for scene i."""
        return self._outcome(
            f"student {steps} try {attempt}",
            attempt,
            wanted,
            lambda at: self._drawn(steps, attempt, at),
        )

    def redone(
        self, student_steps: int | None, plan: TeacherPlan, attempt: int = 0, wanted: np.ndarray | None = None
    ) -> Outcome:
        """The teacher: from the images of one of the student's tries to refine, else from its first try's noise."""
        if plan.strategy == "regenerate":
            return self._outcome(f"teacher {plan.steps}", 0, wanted, lambda at: self._redone(None, plan, 0, at))
        return self._outcome(
            f"student {student_steps} try {attempt} refined {plan.steps} from {plan.rollback:g}",
            attempt,
            wanted,
            lambda at: self._redone(student_steps, plan, attempt, at),
        )

    def teacher(self, steps: int) -> Outcome:
        return self.redone(None, teacher_plan(strategy="regenerate", steps=steps))

    @cached_property
    def full_steps(self) -> int:
        """The cheapest teacher within half a point of the best."""
        accuracy = {steps: self.teacher(steps).exact.mean() for steps in TEACHER_STEPS}
        return min(steps for steps, value in accuracy.items() if value >= max(accuracy.values()) - 0.005)

    def first_batch(self, steps: int) -> tuple[torch.Tensor, list[str], list[int]]:
        """The student's pictures of the first scenes, their prompts and their seeds."""
        at = np.arange(min(BATCH, len(self.scenes)))
        return self._starts(steps, 0, at), *self._asked(0, at)

    def _asked(self, attempt: int, at: np.ndarray) -> tuple[list[str], list[int]]:
        return [self.prompts[i] for i in at], [seed_of_try(int(i), 0, attempt) for i in at]

    def _drawn(self, steps: int, attempt: int, at: np.ndarray) -> tuple[torch.Tensor, int]:
        images, evaluations = draw(
            self.models["student"], *self._asked(attempt, at), SIZE, StudentPlan(steps=steps), quiet
        )
        if attempt == 0:
            self.pictures |= {(steps, int(i)): image for i, image in zip(at, images, strict=True)}
        return images, evaluations

    def _starts(self, steps: int, attempt: int, at: np.ndarray) -> torch.Tensor:
        if attempt == 0 and all((steps, int(i)) in self.pictures for i in at):
            return torch.stack([self.pictures[steps, int(i)] for i in at])
        return self._drawn(steps, attempt, at)[0]

    def _redone(self, steps: int | None, plan: TeacherPlan, attempt: int, at: np.ndarray) -> tuple[torch.Tensor, int]:
        start = None if steps is None else self._starts(steps, attempt, at)
        return redo(self.models["teacher"], start, *self._asked(attempt, at), SIZE, plan, quiet)

    def _outcome(self, name: str, attempt: int, wanted: np.ndarray | None, make) -> Outcome:
        """What ``make(places) -> (images, evaluations)`` makes of the wanted scenes, each once."""
        if name not in self.kept:
            self.kept[name] = Kept(self.work / f"{name}.npz", self.whole)
        kept, count = self.kept[name], len(self.scenes)
        missing = np.flatnonzero((self.everyone if wanted is None else wanted) & ~kept.made[:count])
        for start in range(0, len(missing), BATCH):
            at = missing[start : start + BATCH]
            images, evaluations = make(at)
            scores = self.oracle(images, [self.prompts[i] for i in at])
            kept.put(at, checker.exact(images, [self.scenes[i] for i in at]), scores, evaluations)
        made = (values[:count].copy() for values in (kept.exact, kept.scores, kept.evaluations))
        return Outcome(*made, np.full(count, attempt))


def teacher_plan(**settings) -> TeacherPlan:
    return TeacherPlan(cfg=CFG, scheduler="trailing", rollback_mode="schedule", **settings)


def quiet(step: int, steps: int) -> None:
    """No progress within a batch."""
