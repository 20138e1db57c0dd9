"""`understudy generate`: the adaptive run on real checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..oracles.base import Oracle
from ..oracles.budget import Budget
from ..oracles.calibration import Calibration
from ..oracles.likeness import ClipCosine, Measure, StructuralSimilarity
from ..oracles.prompt_syntax import prompts_to_read
from ..oracles.published_calibrations import PUBLISHED_CALIBRATIONS
from ..oracles.scores import Scores
from ..oracles.threshold import Threshold
from ..receipts.folder import check_output
from ..receipts.report import Report
from .adaptive_run import Cast, Plan, described, jobs_for, run
from .checkpoint import Checkpoint, Components, architecture_at, open_checkpoint
from .console import progress
from .control import check_control, load_control
from .given_pictures import check_pictures, read_asked
from .model import TeacherPlan, evaluations
from .processes import Processes
from .stable_diffusion import Control, StableDiffusion
from .student_request import StudentRequest, quiet_libraries, resolve_dtype

DEFAULT_FRACTION = 0.3


@dataclass(frozen=True)
class Choice:
    """How rejected images are chosen: at most one of five, and a calibration file or a published table's name.

    With ``percentile`` or ``budget`` the calibration is read; else this run's student scores are added to the file.
    """

    percentile: float | None = None
    threshold: float | None = None
    worst_fraction: float | None = None
    worst_n: int | None = None
    budget: float | None = None
    calibration: Path | None = None

    def __post_init__(self):
        names = ("percentile", "threshold", "worst_fraction", "worst_n", "budget")
        given = [_option(name) for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other; give one")
        if self.percentile is not None:
            check_percentile(self.percentile)
        if self.reads_calibration and self.calibration is None:
            raise ValueError(
                f"{given[0]} needs --calibration FILE; make one with 'understudy calibrate', or by running once "
                "with --worst-fraction and --calibration, which adds that run's scores to FILE"
            )
        if self.published and not self.reads_calibration:
            raise ValueError(
                f"--calibration {self.calibration!s} is a published table; give --percentile or --budget with it"
            )

    @property
    def reads_calibration(self) -> bool:
        """Whether the calibration decides; else it grows."""
        return self.percentile is not None or self.budget is not None

    @property
    def published(self) -> bool:
        """Whether the calibration is one that the authors published, not a file."""
        return self.calibration is not None and str(self.calibration) in PUBLISHED_CALIBRATIONS


@dataclass(frozen=True)
class Pictures:
    """What images are made from beside prompts: sources to start from and hints for ControlNets, files or folders.

    ``likeness`` is "ssim" or a CLIP's file. Raises ValueError for what has nothing to work on.
    """

    init_image: Path | None = None
    control: Path | None = None
    controlnet: Path | None = None
    teacher_controlnet: Path | None = None
    control_strength: float = 1.0
    likeness: str | None = None
    likeness_min: float | None = None

    def __post_init__(self):
        needs = (
            ("likeness", "init_image", "a picture to compare with"),
            ("likeness_min", "likeness", "a measure: ssim, or a CLIP's file"),
            ("control", "controlnet", "a ControlNet to read it"),
            ("controlnet", "control", "a picture to follow"),
            ("teacher_controlnet", "controlnet", "the student's"),
        )
        if self.likeness not in (None, "ssim") and not Path(self.likeness).exists():
            raise FileNotFoundError(f"--likeness {self.likeness}: no such file; expected ssim or a CLIP's file")
        for name, other, what in needs:
            if getattr(self, name) is not None and getattr(self, other) is None:
                raise ValueError(f"{_option(name)} needs {_option(other)}: {what}")
        if not 0 <= self.control_strength <= 10:
            raise ValueError(f"--control-strength is {self.control_strength:g}; expected 0 to 10")

    def of_teacher(self) -> Path | None:
        return self.teacher_controlnet or self.controlnet


@dataclass(frozen=True, kw_only=True)
class Request(StudentRequest):
    """Everything that the user asked for."""

    teacher: Path
    out: Path
    teacher_plan: TeacherPlan
    teacher_vae: Path | None = None
    choice: Choice = Choice()
    pictures: Pictures = Pictures()

    def __post_init__(self):
        if self.choice.budget is not None and self.pictures.likeness_min is not None:
            raise ValueError(
                "--budget cannot be kept with --likeness-min, which sends images to the teacher whatever they score; "
                "leave one out"
            )


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def generate(request: Request, on_remark: Callable[[str], None] | None = None) -> Report | None:
    """Make ``request.out``. Returns the report on the main process, None on the others.

    ``on_remark`` gets, on the main process, what a user should know of the prompts, the pictures and the plans.
    Raises FileNotFoundError, FileExistsError or a ValueError for anything wrong with the request, before any network
    is loaded where that can be known, and leaves nothing half-written.
    """
    check_output(request.out)
    pictures = request.pictures
    asked = read_asked(request.prompts, pictures.init_image, pictures.control)
    prompts = [each.prompt for each in asked]
    student, size = request.checked(len(prompts))
    teacher = open_checkpoint(request.teacher, _teacher_vae(request, student))
    for path in {pictures.controlnet, pictures.of_teacher()} - {None}:
        check_control(path)
    cut = check_pictures([picture for each in asked for picture in (each.source, each.hint)], size)
    processes = Processes(request.device)
    dtype = resolve_dtype(request.dtype, processes.device)
    quiet_libraries()

    oracle = request.load_oracle(processes.device)
    settings = request.settings(size) | _steered(pictures, pictures.controlnet)
    likeness = _measure(pictures, processes.device)
    calibration = _calibration(request, settings, oracle)
    if calibration is not None and not request.choice.reads_calibration:
        calibration.require_images(prompts, request.prompts.name)
    threshold = None if request.choice.budget is not None else _threshold(request.choice, calibration)
    cast = _cast(request, student, teacher, oracle, processes.device, dtype)
    cast.student.latent_shape(size)
    if threshold is None:  # what the student costs is known once its network is
        costs = evaluations(request.student_plan, request.teacher_plan, cast.student.embeds_guidance)
        threshold = Threshold.budget(calibration, Budget(request.choice.budget, *costs))
    plan = Plan(
        request.student_plan,
        request.teacher_plan,
        threshold,
        size,
        _report_settings(request, settings, teacher, dtype),
        request.literal_prompts,
        likeness,
        pictures.likeness_min,
    )
    if on_remark and processes.is_main:
        texts, syntax = prompts_to_read(prompts, request.literal_prompts or not oracle.reads_prompts)
        plans = [*plan.student.remarks, *plan.teacher.remarks]
        read = [*cast.student.remarks(prompts), *syntax, *oracle.remarks(texts)]
        for remark in [*plans, *read, *([cut] if cut else [])]:
            on_remark(remark)
        if remark := _batch_remark(threshold, len(prompts), request.batch_size):
            on_remark(remark)
    with progress(processes, len(prompts)) as watcher:
        result = run(cast, plan, jobs_for(asked, request.seed), request.batch_size, request.out, processes, watcher)
    if result is None:
        return None
    report, scores = result
    if calibration is not None and not request.choice.reads_calibration:
        _add(calibration, scores, settings, request.choice.calibration)
    return report


def _batch_remark(threshold: Threshold, images: int, batch_size: int) -> str | None:
    """What a user should know of a rule that compares the images of a batch, or of a budget; None: nothing."""
    if threshold.budget_of is not None:
        return f"the teacher gets {threshold.rule}"
    smallest = images % batch_size or min(images, batch_size)
    if threshold.mode == "worst_n" and smallest <= threshold.n:
        return (
            f"--worst-n compares the images of a batch, and one of {smallest} has no more than {threshold.n}: all are "
            "redone. Give another --batch-size, or --percentile, --budget or --threshold, which work for one image"
        )
    if threshold.remark(1) and (lone := _alone_in_their_batches(images, batch_size)):
        return (
            f"--worst-fraction compares the images of a batch, and {lone} alone in a batch: never redone. "
            "Give another --batch-size, or --percentile, --budget or --threshold, which work for one image"
        )
    return None


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
    components, pictures = request.load(student, dtype), request.pictures
    control, predictor = _control(pictures, pictures.controlnet, components), request.load_predictor(components)
    first = StableDiffusion(components, device, request.negative, control=control, predictor=predictor)
    second: list[StableDiffusion] = []
    same = (student.path.resolve(), student.vae) == (teacher.path.resolve(), teacher.vae)
    same_control = pictures.controlnet == pictures.of_teacher()
    if same and request.student_lora is None and same_control:
        second.append(first)

    def load_teacher() -> StableDiffusion:
        if not second:
            loaded = teacher.load(dtype)
            if same:
                loaded = replace(loaded, vae=components.vae, texts=components.texts)
            shared = same_control and teacher.architecture is student.architecture
            control = first.control if shared else _control(pictures, pictures.of_teacher(), loaded)
            second.append(StableDiffusion(loaded, device, request.negative, control=control))
        return second[0]

    return Cast(first, oracle, load_teacher)


def _control(pictures: Pictures, path: Path | None, components: Components) -> Control | None:
    if path is None:
        return None
    return Control(load_control(path, components.unet, components.unet.dtype), pictures.control_strength)


def _measure(pictures: Pictures, device: torch.device) -> Measure | None:
    """What --likeness names. Raises ValueError for a --likeness-min that it cannot reach."""
    if pictures.likeness is None:
        return None
    measure = StructuralSimilarity() if pictures.likeness == "ssim" else ClipCosine(pictures.likeness)
    if pictures.likeness_min is not None and pictures.likeness_min > measure.most:
        raise ValueError(
            f"--likeness-min is {pictures.likeness_min:g}, and --likeness {pictures.likeness} is at most "
            f"{measure.most:g}: {measure.unit}"
        )
    measure.network.to(device)
    return measure


def _steered(pictures: Pictures, controlnet: Path | None) -> dict:
    """What the settings say of a ControlNet."""
    return {"controlnet": controlnet.name, "control_strength": pictures.control_strength} if controlnet else {}


def _teacher_vae(request: Request, student: Checkpoint) -> Path | None:
    """The autoencoder that the teacher takes in the place of its own."""
    if request.teacher_vae is None and request.vae is not None:
        return request.vae if architecture_at(request.teacher) is student.architecture else None
    return request.teacher_vae


def _report_settings(request: Request, student: dict, teacher: Checkpoint, dtype: torch.dtype) -> dict:
    choice = request.choice
    vae = {"vae": teacher.vae.name} if teacher.vae else {}
    steered = _steered(request.pictures, request.pictures.of_teacher())
    compared = {name: getattr(request.pictures, name) for name in ("likeness", "likeness_min")}
    threshold = {key: value for key, value in vars(choice).items() if value is not None and key != "calibration"}
    return {
        "command": "generate",
        "student": student,
        "teacher": {"teacher": request.teacher.name, **vae, **steered, **described(request.teacher_plan)},
        "oracle": request.oracle.name,
        **{name: value for name, value in compared.items() if value is not None},
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
    elif not request.choice.reads_calibration:
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
    if choice.worst_n is not None:
        return Threshold.worst_n(choice.worst_n)
    fraction = DEFAULT_FRACTION if choice.worst_fraction is None else choice.worst_fraction
    return Threshold.worst_fraction(fraction)


def _add(calibration: Calibration, scores: Scores, settings: dict, path: Path) -> None:
    calibration.add(replace(scores, settings=settings))
    calibration.save(path)
