"""`understudy generate`: the adaptive run on real checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..files.tables import read_prompts
from ..oracles.base import Oracle
from ..oracles.calibration import Calibration
from ..oracles.prompt_syntax import prompts_to_read
from ..oracles.published_calibrations import PUBLISHED_CALIBRATIONS
from ..oracles.scores import Scores
from ..oracles.threshold import Threshold
from ..receipts.folder import check_output
from ..receipts.report import Report
from .adaptive_run import Cast, Plan, described, jobs_for, run
from .checkpoint import Checkpoint, architecture_at, open_checkpoint
from .console import progress
from .model import TeacherPlan
from .processes import Processes
from .stable_diffusion import StableDiffusion
from .student_request import StudentRequest, quiet_libraries, resolve_dtype

DEFAULT_FRACTION = 0.3


@dataclass(frozen=True)
class Choice:
    """How rejected images are chosen: at most one of three, and a calibration file or a published table's name.

    With ``percentile`` the calibration is read; otherwise this run's student scores are added to the file.
    """

    percentile: float | None = None
    threshold: float | None = None
    worst_fraction: float | None = None
    calibration: Path | None = None

    def __post_init__(self):
        names = ("percentile", "threshold", "worst_fraction")
        given = [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other; give one")
        if self.percentile is not None:
            check_percentile(self.percentile)
            if self.calibration is None:
                raise ValueError(
                    "--percentile needs --calibration FILE; make one with 'understudy calibrate', or by running once "
                    "with --worst-fraction and --calibration, which adds that run's scores to FILE"
                )
        elif self.published:
            raise ValueError(f"--calibration {self.calibration!s} is a published table; give --percentile with it")

    @property
    def published(self) -> bool:
        """Whether the calibration is one that the authors published, not a file."""
        return self.calibration is not None and str(self.calibration) in PUBLISHED_CALIBRATIONS


@dataclass(frozen=True, kw_only=True)
class Request(StudentRequest):
    """Everything that the user asked for."""

    teacher: Path
    out: Path
    teacher_plan: TeacherPlan
    teacher_vae: Path | None = None
    choice: Choice = Choice()


def generate(request: Request, on_remark: Callable[[str], None] | None = None) -> Report | None:
    """Make ``request.out``. Returns the report on the main process, None on the others.

    ``on_remark`` gets, on the main process, what the oracle has to say of the prompts.
    Raises FileNotFoundError, FileExistsError or a ValueError for anything wrong with the request, before any network
    is loaded where that can be known, and leaves nothing half-written.
    """
    check_output(request.out)
    prompts = read_prompts(request.prompts)
    student, size = request.checked(len(prompts))
    teacher = open_checkpoint(request.teacher, _teacher_vae(request, student))
    processes = Processes(request.device)
    dtype = resolve_dtype(request.dtype, processes.device)
    quiet_libraries()

    oracle = request.load_oracle(processes.device)
    settings = request.settings(size)
    calibration = _calibration(request, settings, oracle)
    if calibration is not None and request.choice.percentile is None:
        calibration.require_images(prompts, request.prompts.name)
    plan = Plan(
        request.student_plan,
        request.teacher_plan,
        _threshold(request.choice, calibration),
        size,
        _report_settings(request, settings, teacher, dtype),
        request.literal_prompts,
    )
    cast = _cast(request, student, teacher, oracle, processes.device, dtype)
    cast.student.latent_shape(size)
    if on_remark and processes.is_main:
        texts, syntax = prompts_to_read(prompts, request.literal_prompts or not oracle.reads_prompts)
        for remark in [*cast.student.remarks(prompts), *syntax, *oracle.remarks(texts)]:
            on_remark(remark)
        if plan.threshold.remark(1) and (lone := _alone_in_their_batches(len(prompts), request.batch_size)):
            on_remark(
                f"--worst-fraction compares the images of a batch, and {lone} alone in a batch: never redone. "
                "Give another --batch-size, or --percentile or --threshold, which work for one image"
            )
    with progress(processes, len(prompts)) as watcher:
        result = run(cast, plan, jobs_for(prompts, request.seed), request.batch_size, request.out, processes, watcher)
    if result is None:
        return None
    report, scores = result
    if calibration is not None and request.choice.percentile is None:
        _add(calibration, scores, settings, request.choice.calibration)
    return report


def _alone_in_their_batches(images: int, batch_size: int) -> str:
    """Which images have a batch of their own, in words; "" if none has."""
    if images == 1:
        return "the only image is"
    if batch_size == 1:
        return f"each of the {images} images is"
    return f"the last of the {images} images is" if images % batch_size == 1 else ""


def check_percentile(k: float) -> None:
    if not 0 <= k <= 100:
        raise ValueError(f"--percentile is {k:g}; expected 0 to 100")


def _cast(request: Request, student: Checkpoint, teacher: Checkpoint, oracle, device, dtype) -> Cast:
    components = request.load(student, dtype)
    first = StableDiffusion(components, device, request.negative, request.load_predictor(components))
    second: list[StableDiffusion] = []
    same = (student.path.resolve(), student.vae) == (teacher.path.resolve(), teacher.vae)
    if same and request.student_lora is None:
        second.append(first)

    def load_teacher() -> StableDiffusion:
        if not second:
            loaded = teacher.load(dtype)
            if same:
                loaded = replace(loaded, vae=components.vae, texts=components.texts)
            second.append(StableDiffusion(loaded, device, request.negative))
        return second[0]

    return Cast(first, oracle, load_teacher)


def _teacher_vae(request: Request, student: Checkpoint) -> Path | None:
    """The autoencoder that the teacher takes in the place of its own."""
    if request.teacher_vae is None and request.vae is not None:
        return request.vae if architecture_at(request.teacher) is student.architecture else None
    return request.teacher_vae


def _report_settings(request: Request, student: dict, teacher: Checkpoint, dtype: torch.dtype) -> dict:
    choice = request.choice
    vae = {"vae": teacher.vae.name} if teacher.vae else {}
    threshold = {key: value for key, value in vars(choice).items() if value is not None and key != "calibration"}
    return {
        "command": "generate",
        "student": student,
        "teacher": {"teacher": request.teacher.name, **vae, **described(request.teacher_plan)},
        "oracle": request.oracle.name,
        "threshold": threshold or {"worst_fraction": DEFAULT_FRACTION},
        "calibration": choice.calibration.name if choice.calibration else None,
        "prompts": request.prompts.name,
        "seed": request.seed,
        "batch_size": request.batch_size,
        "dtype": str(dtype).removeprefix("torch."),
    }


def _calibration(request: Request, settings: dict, oracle: Oracle) -> Calibration | None:
    path = request.choice.calibration
    if path is None:
        return None
    if request.choice.published:
        calibration = PUBLISHED_CALIBRATIONS[str(path)]
    elif path.exists():
        calibration = Calibration.load(path)
    elif request.choice.percentile is None:
        return Calibration(path.stem, {}, settings, oracle.fingerprint, request.prompts.name)
    else:
        known = ", ".join(map(repr, PUBLISHED_CALIBRATIONS))
        raise FileNotFoundError(f"{path}: no such calibration file, nor one of the published tables {known}")
    calibration.require(settings, oracle.fingerprint, oracle.family)
    return calibration


def _threshold(choice: Choice, calibration: Calibration | None) -> Threshold:
    if choice.percentile is not None:
        return Threshold.percentile(calibration, choice.percentile)
    if choice.threshold is not None:
        return Threshold.fixed(choice.threshold)
    fraction = DEFAULT_FRACTION if choice.worst_fraction is None else choice.worst_fraction
    return Threshold.worst_fraction(fraction)


def _add(calibration: Calibration, scores: Scores, settings: dict, path: Path) -> None:
    calibration.add(replace(scores, settings=settings))
    calibration.save(path)
