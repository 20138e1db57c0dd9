"""`understudy calibrate`: the distribution of a student's own scores, from its own images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..files.tables import read_prompts
from ..oracles.calibration import MINIMUM_SCORES, Calibration
from ..oracles.prompt_syntax import prompts_to_read
from ..oracles.scores import Scores, image_id
from ..oracles.settings import prompts_hash
from .adaptive_run import Job
from .model import draw
from .processes import Processes
from .stable_diffusion import StableDiffusion
from .student_request import StudentRequest, quiet_libraries, resolve_dtype


@dataclass(frozen=True, kw_only=True)
class Request(StudentRequest):
    """``count`` images in all; ``out`` is the calibration file, which is added to if it is there."""

    count: int
    out: Path


def calibrate(
    request: Request,
    on_progress: Callable[[int, int], None] | None = None,
    on_remark: Callable[[str], None] | None = None,
) -> Calibration | None:
    """Draw, score and count images until ``request.out`` has ``request.count``; None on other than the main process.

    Image i takes prompt i (in turn) and seed + i, so a run that was cut off goes on where it was, and a file of other
    prompts or another seed, which would go on in the middle of other images, is refused; the file is whole after every
    round of batches. On the main process ``on_progress`` gets (images counted, images in all), and
    ``on_remark`` what the oracle has to say of the prompts.
    Raises FileNotFoundError or ValueError for anything wrong with the request.
    """
    if request.count < MINIMUM_SCORES:
        raise ValueError(f"-n is {request.count}; percentiles need at least {MINIMUM_SCORES} images")
    if request.out.suffix != ".json":
        raise ValueError(f"--out is {request.out}; expected a name that ends in .json")
    prompts = read_prompts(request.prompts)
    student, size = request.checked(request.count)
    processes = Processes(request.device)
    dtype = resolve_dtype(request.dtype, processes.device)
    quiet_libraries()
    oracle = request.load_oracle(processes.device)
    settings = request.settings(size)
    calibration = _opened(request, settings, oracle.fingerprint, prompts)
    components = request.load(student, dtype)
    predictor = request.load_predictor(components)
    model = StableDiffusion(components, processes.device, request.negative, predictor=predictor)
    if on_remark and processes.is_main:
        texts, syntax = prompts_to_read(prompts[: request.count], request.literal_prompts or not oracle.reads_prompts)
        for remark in [*model.remarks(prompts[: request.count]), *syntax, *oracle.remarks(texts)]:
            on_remark(remark)
    jobs = [Job(i, prompts[i % len(prompts)], request.seed + i) for i in range(calibration.n, request.count)]
    batches = [jobs[i : i + request.batch_size] for i in range(0, len(jobs), request.batch_size)]
    for start in range(0, len(batches), processes.count):
        mine = batches[start : start + processes.count][processes.rank : processes.rank + 1]
        for scores in processes.gather(_scored(model, oracle, mine[0], size, request, settings) if mine else None):
            if scores is not None:
                calibration.add(scores)
        if processes.is_main:
            calibration.save(request.out)
        if on_progress and processes.is_main:
            on_progress(calibration.n, request.count)
    return calibration if processes.is_main else None


def _opened(request: Request, settings: dict, oracle: str, prompts: list[str]) -> Calibration:
    name, seed = request.prompts.name, request.seed
    if not request.out.exists():
        known = {"prompts": prompts_hash(prompts), "seed": seed}
        return Calibration(request.out.stem, {}, settings, oracle, name, **known)
    calibration = Calibration.load(request.out)
    calibration.require(settings, oracle)
    calibration.require_images(prompts, name, seed)
    return calibration


def _scored(model: StableDiffusion, oracle, batch: list[Job], size, request: Request, settings: dict) -> Scores:
    prompts = [job.prompt for job in batch]
    images, _ = draw(model, prompts, [job.seed for job in batch], size, request.student_plan, lambda step, steps: None)
    texts = prompts_to_read(prompts, request.literal_prompts).texts
    values = tuple(oracle(images, texts).tolist())
    return Scores(values, tuple(map(image_id, images)), oracle.fingerprint, tuple(prompts), settings)
