"""More than one try of the student before the gate, budgets, and a strength that follows the score."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from adaptive_stage import Outcome, Stage, teacher_plan
from understudy.oracles.budget import Budget
from understudy.oracles.calibration import Calibration
from understudy.oracles.threshold import Threshold
from understudy.pipelines.model import TeacherPlan
from understudy.samplers.best_of import best_of

CALIBRATION = "the calibration split"
TRIES = (2, 4, 8)
BUDGETED = 4  # tries before a budget's gate, beside a single one
# By the student's steps, percentiles of a single try's scores: tries go on below.
STOPS = {1: (50, 60, 70, 80), 2: (30, 40, 50, 60, 70), 4: (20, 30, 40, 50, 60)}
# Percentiles of the scores of the best of the tries: the teacher redoes those below.
GATES = (0, 2, 5, 10, 15, 20, 25, 30)
COSTS = (6, 8, 12)
AIM = 8  # evaluations: at no more than these most is asked for
MARGIN = 0.95  # points are chosen at so much of the cost, as the test split's may be a little higher
BUDGETS = (6, 8, 10)
PERCENTILES = (20, 30, 40)
REFINE_STEPS = 6
SPANS = ((0.3, 0.7), (0.3, 0.9), (0.5, 0.7), (0.5, 0.9), (0.7, 0.9), (0.7, 0.5))  # of the rollback
PLANS = [
    *(teacher_plan(steps=REFINE_STEPS, rollback=rollback) for rollback in (0.5, 0.7)),
    *(teacher_plan(strategy="regenerate", steps=steps) for steps in (6, 8, 12)),
]
AGAIN = [teacher_plan(strategy="regenerate", steps=steps) for steps in (6, 8, 12)]


@dataclass(frozen=True)
class Tries:
    """Up to ``n`` tries of ``steps`` each, as Best Of makes them: no more once one scores ``stop``, else the best."""

    steps: int
    n: int
    stop: float

    def on(self, stage: Stage) -> Outcome:
        made: list[Outcome] = []

        def student(places: torch.Tensor, number: int) -> torch.Tensor:
            wanted = np.zeros(len(stage.everyone), bool)
            wanted[places.numpy()] = True
            made.append(stage.student(self.steps, number, wanted))
            return places

        def oracle(images: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(made[-1].scores[places.numpy()])

        found = best_of(student, oracle, len(stage.everyone), self.n, passes=lambda scores: scores >= self.stop)
        chosen = found.chosen.numpy()
        exact = np.stack([each.exact for each in made])[chosen, np.arange(len(chosen))]
        return Outcome(exact, found.scores.numpy(), self.steps * found.tries.numpy(), chosen)


@dataclass(frozen=True)
class Point:
    """Tries, then the teacher for what scores below ``gate``; of the two the better by the oracle, or the teacher's.

    ``again``: what of that still scores below ``again_gate`` goes to the teacher once more, and the better is kept.
    """

    tries: Tries
    gate: float
    plan: TeacherPlan
    keep_better: bool
    again: TeacherPlan | None = None
    again_gate: float = -np.inf

    def on(self, stage: Stage) -> Outcome:
        return self.after(stage, self.tries.on(stage))

    def after(self, stage: Stage, best: Outcome) -> Outcome:
        """What becomes of the best of the tries."""
        rejected = best.scores < self.gate
        redone = refined(stage, best, rejected, self.tries.steps, self.plan)
        result = (best.better if self.keep_better else best.where)(rejected, redone)
        if self.again is None:
            return result
        still = rejected & (result.scores < self.again_gate)
        return result.better(still, stage.redone(self.tries.steps, self.again, wanted=still))

    def wrong(self, stage: Stage) -> dict[str, float]:
        """Which share of all images is wrong in the end: passed by the oracle, or redone and still wrong."""
        passed, wrong = self.tries.on(stage).scores >= self.gate, ~self.on(stage).exact
        return {"wrong_passed": float((wrong & passed).mean()), "wrong_redone": float((wrong & ~passed).mean())}

    def without_the_oracles_errors(self, stage: Stage) -> Outcome:
        """The same tries and teacher with the checker for an oracle: what is right passes, what is not is redone."""
        tries = replace(self.tries, stop=1)
        return replace(self, tries=tries, gate=1, keep_better=True, again_gate=1).on(Checked(stage))


class Checked:
    """A stage whose scores are the checker's: 1 for what is exact, 0 for what is not."""

    def __init__(self, stage: Stage):
        self.stage, self.everyone = stage, stage.everyone

    def student(self, *asked) -> Outcome:
        return _checked(self.stage.student(*asked))

    def redone(self, *asked, **wanted) -> Outcome:
        return _checked(self.stage.redone(*asked, **wanted))


def _checked(outcome: Outcome) -> Outcome:
    return replace(outcome, scores=outcome.exact.astype(np.float32))


def refined(stage: Stage, student: Outcome, wanted: np.ndarray, steps: int, plan: TeacherPlan) -> Outcome:
    """The teacher's versions of the wanted images, each from the try that it is of."""
    redone = replace(student, evaluations=np.zeros_like(student.evaluations))
    for attempt in np.unique(student.attempt[wanted]):
        mine = wanted & (student.attempt == attempt)
        redone = redone.where(mine, stage.redone(steps, plan, int(attempt), mine))
    return redone


def candidates(stage: Stage, n: int) -> Iterable[tuple[Point, Outcome]]:
    """Every setting of up to ``n`` tries and a teacher, with what it comes to."""
    for steps, stop in ((steps, stop) for steps, stops in STOPS.items() for stop in stops):
        tries = Tries(steps, n, float(np.percentile(stage.student(steps).scores, stop)))
        best = tries.on(stage)
        if best.evaluations.mean() > max(COSTS):
            continue
        gates = sorted({float(np.percentile(best.scores, gate)) if gate else -np.inf for gate in GATES})
        for plan in PLANS:
            for gate, (keep_better, *again) in product(gates, ends(gates)):
                point = Point(tries, gate, plan, keep_better, *again)
                yield point, point.after(stage, best)


def ends(gates: Sequence[float]) -> list[tuple]:
    """What becomes of a redone image: whether the better is kept, and by which plan and gate it is redone once more."""
    return [(False,), (True,), *((True, again, gate) for again, gate in product(AGAIN, gates) if gate > -np.inf)]


def points(stage: Stage, n: int) -> dict[int, Point]:
    """For each cost the most exact setting within ``MARGIN`` of it, and of equals the cheapest."""
    found, chosen = list(candidates(stage, n)), {}
    for cost in COSTS:
        within = [(point, outcome) for point, outcome in found if outcome.evaluations.mean() <= MARGIN * cost]
        if within:
            chosen[cost] = max(within, key=_rank)[0]
    return chosen


def _rank(each: tuple[Point, Outcome]) -> tuple[float, float]:
    return each[1].exact.mean(), -each[1].evaluations.mean()


def calibration_of(outcome: Outcome) -> Calibration:
    """The distribution of a method's scores, as the threshold modes read it."""
    scores = {str(i): float(score) for i, score in enumerate(outcome.scores)}
    return Calibration(CALIBRATION, scores, {}, "demo", "calibration split")


@dataclass(frozen=True)
class Budgeted:
    """The mode `budget` behind tries, or behind one: what its threshold is, and the teacher that it reckons with."""

    tries: Tries
    plan: TeacherPlan
    threshold: Threshold

    @classmethod
    def of(cls, stage: Stage, tries: Tries, plan: TeacherPlan, evaluations: float) -> "Budgeted":
        """The student costs what its tries did on this stage, on average; the teacher what its steps are."""
        best = tries.on(stage)
        budget = Budget(evaluations, float(best.evaluations.mean()), plan.steps * (1 if plan.cfg == 1 else 2))
        return cls(tries, plan, Threshold.budget(calibration_of(best), budget))

    def on(self, stage: Stage) -> Outcome:
        return Point(self.tries, self.threshold.value, self.plan, keep_better=False).on(stage)


def budgets(stage: Stage, behind: Sequence[Tries], plan: TeacherPlan) -> list[Budgeted]:
    """Three budgets behind each of these tries."""
    return [Budgeted.of(stage, tries, plan, evaluations) for tries, evaluations in product(behind, BUDGETS)]


@dataclass(frozen=True)
class ByScore:
    """The teacher for a percentile of single tries, from a rollback at the threshold to another at the worst score."""

    steps: int
    percentile: int
    threshold: Threshold
    span: tuple[float, float]

    def on(self, stage: Stage) -> Outcome:
        student = stage.student(self.steps)
        rejected = np.array(self.threshold.rejected(student.scores))
        least, most = self.span
        rollback = least + (most - least) * np.array(self.threshold.badness(student.scores))
        redone = student
        for each in np.unique(np.round(rollback[rejected], 1)):
            mine = rejected & (np.round(rollback, 1) == each)
            plan = teacher_plan(steps=REFINE_STEPS, rollback=float(each))
            redone = redone.where(mine, stage.redone(self.steps, plan, wanted=mine))
        return redone


def spans(stage: Stage, steps: int = 4) -> list[ByScore]:
    """For each percentile the most exact way of letting the rollback follow the score."""
    calibration = calibration_of(stage.student(steps))
    chosen = []
    for percentile in PERCENTILES:
        threshold = Threshold.percentile(calibration, percentile)
        ways = [ByScore(steps, percentile, threshold, span) for span in SPANS]
        chosen.append(max(ways, key=lambda each: each.on(stage).exact.mean()))
    return chosen
