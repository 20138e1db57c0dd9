"""One adaptive run over many prompts: batches, processes, timing, and everything that goes on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..oracles.base import Oracle
from ..oracles.likeness import Likeness, Measure
from ..oracles.prompt_syntax import prompts_to_read
from ..oracles.scores import Scores, image_id
from ..oracles.threshold import Threshold
from ..receipts.folder import GRID_FILE, whole_directory
from ..receipts.grid import draw_grid
from ..receipts.report import ImageReport, Report, Totals, finite, save_images
from ..samplers.adaptive import adaptive
from .given_pictures import Asked, read_hints, read_sources
from .model import LatentModel, StudentPlan, TeacherPlan, draw, redo
from .processes import Processes


@dataclass(frozen=True)
class Job:
    """One image to make."""

    index: int
    prompt: str
    seed: int
    source: Path | None = None
    hint: Path | None = None


def jobs_for(asked: Sequence[Asked], seed: int) -> list[Job]:
    """Image i gets seed + i, so that it can be made again alone."""
    return [Job(i, each.prompt, seed + i, each.source, each.hint) for i, each in enumerate(asked)]


@dataclass(frozen=True)
class Cast:
    """Who is on stage. ``teacher`` loads on its first call, which comes only when an image is rejected."""

    student: LatentModel
    oracle: Oracle
    teacher: Callable[[], LatentModel]


@dataclass(frozen=True)
class Plan:
    """What the cast is to do. ``size`` is (height, width); ``settings`` is what the report says about all of it.

    literal: the oracle reads prompts as they stand, with what is syntax. likeness: how each image is compared with its
    source; those below ``least_likeness`` are rejected whatever the oracle says.
    """

    student: StudentPlan
    teacher: TeacherPlan
    threshold: Threshold
    size: tuple[int, int]
    settings: dict = field(default_factory=dict)
    literal: bool = False
    likeness: Measure | None = None
    least_likeness: float | None = None


@dataclass
class Costs:
    """Seconds by stage, and evaluations by stage, summed over images."""

    seconds: dict[str, float] = field(default_factory=lambda: {"student": 0.0, "oracle": 0.0, "teacher": 0.0})
    evaluations: dict[str, int] = field(default_factory=lambda: {"student": 0, "teacher": 0})

    def add(self, other: Costs) -> None:
        for stage, seconds in other.seconds.items():
            self.seconds[stage] += seconds
        for stage, evaluations in other.evaluations.items():
            self.evaluations[stage] += evaluations

    def seconds_per_teacher_evaluation(self) -> float:
        """Measured, or the student's if no teacher ran."""
        stage = "teacher" if self.evaluations["teacher"] else "student"
        return self.seconds[stage] / max(self.evaluations[stage], 1)


@dataclass(frozen=True)
class Outcome:
    """What became of one job; the pixels are on disk."""

    index: int
    image: ImageReport
    image_id: str


class Watcher:
    """Told what happens; this one keeps quiet."""

    def stage(self, name: str, images: int) -> None:
        """A stage (student, oracle, teacher) begins on a batch."""

    def step(self, step: int, steps: int) -> None:
        """A sampling step ended."""

    def done(self, images: int) -> None:
        """A batch is finished."""


def run(
    cast: Cast,
    plan: Plan,
    jobs: Sequence[Job],
    batch_size: int,
    out: Path,
    processes: Processes,
    watcher: Watcher | None = None,
) -> tuple[Report, Scores] | None:
    """Make all images and write ``out``, whole or not at all: single images, grid.png and report.json.

    Batches are cut from the whole list and dealt to the processes in turn, so that the images and decisions do not
    depend on how many processes there are. Returns the report and the student's scores on the main process, else None.
    """
    watcher = watcher or Watcher()
    batches = [jobs[i : i + batch_size] for i in range(0, len(jobs), batch_size)]
    with processes.on_main(lambda: whole_directory(out)) as folder:
        costs, outcomes = Costs(), []
        for batch in batches[processes.rank :: processes.count]:
            outcomes += run_batch(cast, plan, batch, folder, costs, watcher)
            watcher.done(len(batch))
        everyone: list[tuple[Costs, list[Outcome]]] = processes.gather((costs, outcomes))
        if not processes.is_main:
            return None
        total = Costs()
        for part, _ in everyone:
            total.add(part)
        ordered = sorted((outcome for _, part in everyone for outcome in part), key=lambda outcome: outcome.index)
        report = Report(plan.settings, tuple(o.image for o in ordered), _totals(total, cast, plan, len(jobs)))
        draw_grid(report, folder, plan.threshold.distribution).save(folder / GRID_FILE)
        report.save(folder)
    return report, _scores(ordered, cast.oracle)


def run_batch(
    cast: Cast, plan: Plan, batch: Sequence[Job], folder: Path, costs: Costs, watcher: Watcher
) -> list[Outcome]:
    """Algorithm 1 on one batch; saves its images and adds to ``costs``."""
    prompts, seeds = [job.prompt for job in batch], [job.seed for job in batch]
    sources = read_sources([job.source for job in batch], plan.size)
    hints = read_hints([job.hint for job in batch], plan.size)
    alike = Likeness(plan.likeness, list(sources)) if plan.likeness else None
    texts, spent = prompts_to_read(prompts, plan.literal).texts, [0] * len(batch)
    likeness: list[float | None] = [None] * len(batch)
    clock = _Clock(cast.student.device, costs)

    def student() -> torch.Tensor:
        with clock("student"):
            images, evaluations = draw(
                cast.student, prompts, seeds, plan.size, plan.student, watcher.step, sources, hints
            )
        spent[:] = [evaluations] * len(batch)
        costs.evaluations["student"] += evaluations * len(batch)
        return images

    def oracle(images: torch.Tensor) -> torch.Tensor:
        with clock("oracle"):
            if alike:
                likeness[:] = alike(images, texts).tolist()
            return cast.oracle(images, texts)

    def reject(scores: torch.Tensor) -> torch.Tensor:
        lost = [plan.least_likeness is not None and each < plan.least_likeness for each in likeness]
        return torch.tensor(plan.threshold.rejected(scores.tolist())) | torch.tensor(lost)

    def teacher(start: torch.Tensor | None, indices: torch.Tensor) -> torch.Tensor:
        places = indices.tolist()
        model = cast.teacher()
        with clock("teacher"):
            images, evaluations = redo(
                model,
                start,
                [prompts[i] for i in places],
                [seeds[i] for i in places],
                plan.size,
                plan.teacher,
                watcher.step,
                None if sources is None else sources[places],
                None if hints is None else hints[places],
            )
        for i in places:
            spent[i] += evaluations
        costs.evaluations["teacher"] += evaluations * len(places)
        return images

    result = adaptive(
        student,
        oracle,
        teacher,
        reject=reject,
        strategy=plan.teacher.strategy,
        on_stage=lambda stage, count: watcher.stage(stage, len(batch) if count is None else count),
    )
    after: list[float | None] = [None] * len(batch)
    likeness_after: list[float | None] = [None] * len(batch)
    places = result.rejected.nonzero().flatten().tolist()
    if places:
        with clock("oracle"):
            own = [texts[i] for i in places]
            again = cast.oracle(result.images[places], own).tolist()
            alike_again = alike(result.images[places], own, places).tolist() if alike else [None] * len(places)
        for i, score, like in zip(places, again, alike_again, strict=True):
            after[i], likeness_after[i] = score, like
    scores = result.scores.tolist()
    cut = finite(plan.threshold.cut(scores))
    outcomes = []
    for i, job in enumerate(batch):
        made_from = (given if given is None else given[i] for given in (sources, hints))
        save_images(folder, job.index, result.student_images[i], result.images[i], *made_from)
        image = ImageReport(
            job.prompt,
            job.seed,
            scores[i],
            cut,
            result.decisions[i],
            after[i],
            spent[i],
            *(path and path.name for path in (job.source, job.hint)),
            likeness[i],
            likeness_after[i],
        )
        outcomes.append(Outcome(job.index, image, image_id(result.student_images[i])))
    return outcomes


def _totals(costs: Costs, cast: Cast, plan: Plan, images: int) -> Totals:
    # Only a schedule is asked for, which the student has too: no teacher is loaded for it.
    alone = images * plan.teacher.full_steps_from_noise(cast.student.denoiser) * (1 if plan.teacher.cfg == 1 else 2)
    return Totals(
        evaluations=sum(costs.evaluations.values()),
        seconds=round(sum(costs.seconds.values()), 3),
        teacher_only_evaluations=alone,
        teacher_only_seconds=round(alone * costs.seconds_per_teacher_evaluation(), 3),
    )


def _scores(outcomes: Iterable[Outcome], oracle: Oracle) -> Scores:
    outcomes = list(outcomes)
    return Scores(
        values=tuple(o.image.score for o in outcomes),
        image_ids=tuple(o.image_id for o in outcomes),
        oracle=oracle.fingerprint,
        prompts=tuple(o.image.prompt for o in outcomes),
    )


def described(plan: Any) -> dict:
    """A plan's fields for the report, without those that are not set."""
    return {key: value for key, value in asdict(plan).items() if value is not None}


class _Clock:
    """Adds the seconds of a stage, waiting for the device so that they are its own."""

    def __init__(self, device: torch.device, costs: Costs):
        self.device, self.costs = device, costs

    def __call__(self, stage: str) -> _Clock:
        self.stage = stage
        return self

    def __enter__(self) -> None:
        self._wait()
        self.start = time.perf_counter()

    def __exit__(self, *_) -> None:
        self._wait()
        self.costs.seconds[self.stage] += time.perf_counter() - self.start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
