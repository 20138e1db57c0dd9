"""`understudy generate`: the adaptive run on real checkpoints."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..files import check_output
from ..oracles import load_oracle
from ..oracles.calibration import Calibration
from ..oracles.scores import Scores
from ..oracles.threshold import Threshold
from ..report import Report
from .adaptive_run import Cast, Plan, described, jobs_for, run
from .checkpoint import Checkpoint, open_checkpoint
from .console import progress
from .lora import merge_lora, read_lora
from .model import StudentPlan, TeacherPlan
from .processes import Processes
from .stable_diffusion import StableDiffusion

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
DEFAULT_FRACTION = 0.3


@dataclass(frozen=True)
class Choice:
    """How rejected images are chosen: at most one of three, and a calibration file.

    With ``percentile`` the calibration is read; otherwise this run's student scores are added to it.
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
                    "--percentile needs --calibration FILE; make one by running once with --worst-fraction and "
                    "--calibration, which adds that run's scores to FILE"
                )


@dataclass(frozen=True)
class Request:
    """Everything that the user asked for."""

    student: Path
    teacher: Path
    oracle: Path
    prompts: Path
    out: Path
    student_plan: StudentPlan
    teacher_plan: TeacherPlan
    choice: Choice = Choice()
    student_lora: Path | None = None
    oracle_family: str = "auto"
    size: str = ""
    negative: str = ""
    seed: int = 0
    batch_size: int = 8
    device: str = "auto"
    dtype: str = "auto"


def generate(request: Request) -> Report | None:
    """Make ``request.out``. Returns the report on the main process, None on the others.

    Raises FileNotFoundError, FileExistsError or a ValueError for anything wrong with the request, before any network
    is loaded where that can be known, and leaves nothing half-written.
    """
    check_output(request.out)
    prompts = read_prompts(request.prompts)
    if request.batch_size < 1:
        raise ValueError(f"--batch-size is {request.batch_size}; expected at least 1")
    check_seed(request.seed, len(prompts))
    student, teacher = open_checkpoint(request.student), open_checkpoint(request.teacher)
    if request.student_lora is not None:
        read_lora(request.student_lora)
    size = read_size(request.size, student)
    processes = Processes(request.device)
    dtype = _dtype(request.dtype, processes.device)
    _quiet_libraries()

    oracle = load_oracle(request.oracle, request.oracle_family, processes.device)
    settings = _student_settings(request, size)
    calibration = _calibration(request, settings, oracle.fingerprint)
    plan = Plan(
        request.student_plan,
        request.teacher_plan,
        _threshold(request.choice, calibration),
        size,
        _report_settings(request, settings, dtype),
    )
    cast = _cast(request, student, teacher, oracle, processes.device, dtype)
    cast.student.latent_shape(size)
    with progress(processes, len(prompts)) as watcher:
        result = run(cast, plan, jobs_for(prompts, request.seed), request.batch_size, request.out, processes, watcher)
    if result is None:
        return None
    report, scores = result
    if calibration is not None and request.choice.percentile is None:
        _add(calibration, scores, settings, request.choice.calibration)
    return report


def read_prompts(path: Path) -> list[str]:
    """One prompt for each line that is not blank. Raises FileNotFoundError, or ValueError for a file without any."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such prompt file")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8; expected one prompt per line") from error
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise ValueError(f"{path} is empty; expected one prompt per line")
    return prompts


def read_size(text: str, student: Checkpoint) -> tuple[int, int]:
    """(height, width) from "512" or "768x512" (width first); empty is the student family's own size."""
    if not text:
        return student.family.default_size, student.family.default_size
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip().lower())
    if not match or not all(0 < int(side) <= 16384 for side in match.groups() if side):
        raise ValueError(f"--size is {text!r}; expected one number, or width and height as in 768x512")
    width = int(match[1])
    return int(match[2] or width), width


def check_percentile(k: float) -> None:
    if not 0 <= k <= 100:
        raise ValueError(f"--percentile is {k:g}; expected 0 to 100")


def check_seed(seed: int, images: int) -> None:
    if not 0 <= seed <= 2**64 - images:
        raise ValueError(f"--seed is {seed}; expected 0 to 2**64 - {images}, as each image adds one")


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise ValueError(f"--dtype is {name!r}; expected auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def _cast(request: Request, student: Checkpoint, teacher: Checkpoint, oracle, device, dtype) -> Cast:
    components = student.load(dtype)
    if request.student_lora is not None:
        merge_lora(components.unet, request.student_lora)
    first = StableDiffusion(components, device, request.negative)
    second: list[StableDiffusion] = []
    same = student.path.resolve() == teacher.path.resolve()
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


def _student_settings(request: Request, size: tuple[int, int]) -> dict:
    """What decides the student's score distribution, for calibration."""
    return {
        "student": request.student.name,
        "student_lora": request.student_lora.name if request.student_lora else None,
        **described(request.student_plan),
        "size": f"{size[1]}x{size[0]}",
        "negative": request.negative,
    }


def _report_settings(request: Request, student: dict, dtype: torch.dtype) -> dict:
    choice = request.choice
    threshold = {key: value for key, value in vars(choice).items() if value is not None and key != "calibration"}
    return {
        "command": "generate",
        "student": student,
        "teacher": {"teacher": request.teacher.name, **described(request.teacher_plan)},
        "oracle": request.oracle.name,
        "threshold": threshold or {"worst_fraction": DEFAULT_FRACTION},
        "calibration": choice.calibration.name if choice.calibration else None,
        "prompts": request.prompts.name,
        "seed": request.seed,
        "batch_size": request.batch_size,
        "dtype": str(dtype).removeprefix("torch."),
    }


def _calibration(request: Request, settings: dict, oracle: str) -> Calibration | None:
    path = request.choice.calibration
    if path is None:
        return None
    if request.choice.percentile is None and not path.exists():
        return Calibration(path.stem, {}, settings, oracle, request.prompts.name)
    calibration = Calibration.load(path)
    calibration.require(settings, oracle)
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


def _quiet_libraries() -> None:
    """Their advice and loading bars would tear our progress bars apart; errors still come as exceptions."""
    import diffusers
    import transformers

    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
