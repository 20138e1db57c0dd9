"""`understudy demo`: the embedded student, oracle and teacher on typed or built-in prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import cycle, islice
from pathlib import Path

import torch

from ..demo_family import family
from ..demo_family.control import SceneControl, load_control
from ..demo_family.language import parse
from ..oracles import load_oracle
from ..oracles.budget import Budget
from ..oracles.calibration import Calibration
from ..oracles.likeness import StructuralSimilarity
from ..oracles.threshold import Threshold
from ..receipts.folder import check_output
from ..receipts.report import Report
from ..samplers.denoisers import DiscreteDenoiser, scaled_linear
from .adaptive_run import Cast, Plan, described, jobs_for, run
from .console import progress
from .generate import check_percentile
from .given_pictures import Asked, check_pictures
from .images import find_images
from .model import LatentModel, StudentPlan, TeacherPlan, evaluations
from .processes import Processes
from .student_request import check_seed

FOLDER = family.FOLDER
CONTROLS = {"student": FOLDER / "control_student.safetensors", "teacher": FOLDER / "control.safetensors"}
BATCH_SIZE, SIZE = 16, (64, 64)
PERCENTILE = 30.0

# What the shipped calibration was made with; a change here is refused until it is made again.
STUDENT = StudentPlan(steps=4)
# Under outlines: the operating point of bench/control.py, of the two-step student.
CONTROLLED, ROLLBACK = StudentPlan(steps=2, sampler="euler"), 0.3
# Operating points of bench/adaptive.py; ALONE is the cheapest teacher within half a point of the best.
ALONE = 16
TEACHERS = {
    "refine": TeacherPlan(
        steps=6, rollback=0.7, rollback_mode="schedule", cfg=3.0, scheduler="trailing", alone_steps=ALONE
    ),
    "regenerate": TeacherPlan(steps=12, cfg=3.0, scheduler="trailing", strategy="regenerate", alone_steps=ALONE),
}

PROMPTS = (
    "a small red star left of a large blue circle on a gray background",
    "a large green square above a small yellow triangle on a black background",
    "a small cyan circle right of a small purple square on a white background",
    "a large red triangle below a large green star on a gray background",
    "a large blue circle on a white background",
    "a small yellow star above a large purple circle on a black background",
    "a tiny green triangle under a big red square on a white background",
    "a small blue square left of a small cyan star on a gray background",
    "a large purple triangle right of a small red circle on a black background",
    "a small purple star on a gray background",
    "a large yellow circle above a large blue square on a white background",
    "a small red square below a large cyan triangle on a gray background",
    "a large green star left of a small blue triangle on a black background",
    "a small yellow circle right of a large green square on a gray background",
    "a large cyan square on a black background",
    "a small blue star above a small red triangle on a white background",
)


class DemoModel(LatentModel):
    """The demo student or teacher; its pictures are 64x64."""

    def __init__(self, part: family.Part, device: torch.device):
        self.part, self.network, self.device = part, part.network, device
        self.denoiser = DiscreteDenoiser(part.network, scaled_linear(), prediction="v")

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        return family.LATENT_CHANNELS, family.LATENT_SIDE, family.LATENT_SIDE

    def conditioning(self, prompts: Sequence[str], cfg: float, size: tuple[int, int]) -> dict[str, dict]:
        conditioning = {"cond": {"tokens": family.tokens_of(prompts).to(self.device)}}
        if cfg != 1:
            conditioning["uncond"] = {"tokens": family.tokens_of([""] * len(prompts)).to(self.device)}
        return conditioning

    @torch.no_grad()
    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return family.encode(self.part.vae, images)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return family.decode(self.part.vae, latents)


class ControlledDemo(DemoModel):
    """A demo network under a ControlNet of the family."""

    def __init__(self, part: family.Part, control: SceneControl, device: torch.device):
        super().__init__(part, device)
        control = control.to(device).eval().requires_grad_(False)

        def call(x: torch.Tensor, t: torch.Tensor, tokens: torch.Tensor, hint: torch.Tensor) -> torch.Tensor:
            return self.network(x, t, tokens, control(x, t, self.network.text(tokens), hint))

        self.denoiser = DiscreteDenoiser(call, scaled_linear(), prediction="v")


def demo(
    prompts: Sequence[str] = (),
    count: int | None = None,
    percentile: float | None = None,
    budget: float | None = None,
    strategy: str = "refine",
    seed: int = 0,
    out: Path = Path("understudy-demo"),
    init_image: Path | None = None,
    strength: float | None = None,
    control: Path | None = None,
    on_remark: Callable[[str], None] | None = None,
) -> Report | None:
    """Make ``out`` from ``prompts`` (or the built-in ones), repeated in turn up to ``count`` images.

    percentile, PERCENTILE without, or budget: evaluations an image, of which ``on_remark`` is told what it came to,
    as it is of a ``strength`` that is none.
    init_image: a picture that all images start from at ``strength``, or a folder with one for each prompt. control: the
    same of outlines, white lines on black, that they follow. The shipped calibration is of pictures from noise by text
    alone, so ``percentile`` is otherwise the worst part of each batch.
    Raises ValueError (``PromptError`` for an unknown word) or FileExistsError before anything is loaded or written.
    """
    if budget is not None and (percentile is not None or init_image is not None or control is not None):
        raise ValueError(
            "--budget needs the shipped calibration, which is of pictures from noise by text alone; leave --init-image "
            "and --control out"
            if percentile is None
            else "--percentile and --budget exclude each other; give one"
        )
    percentile = PERCENTILE if percentile is None else percentile
    check_percentile(percentile)
    if strategy not in TEACHERS:
        raise ValueError(f"strategy is {strategy!r}; expected one of {', '.join(TEACHERS)}")
    plans = (
        (STUDENT, TEACHERS[strategy])
        if control is None
        else (CONTROLLED, replace(TEACHERS[strategy], rollback=ROLLBACK))
    )
    student, teacher = (replace(plan, strength=strength) for plan in plans)
    spending = None if budget is None else Budget(budget, *evaluations(student, teacher))
    prompts = prompts or PROMPTS
    for prompt in prompts:
        parse(prompt)
    if count is None:
        count = len(prompts)
    if count < 1:
        raise ValueError(f"--count is {count}; expected at least 1")
    check_seed(seed, count)
    sources, hints = (_of_prompts(given, len(prompts)) for given in (init_image, control))
    check_pictures([*sources, *hints], SIZE)
    check_output(out)

    processes = Processes("cpu")
    if on_remark and processes.is_main:
        for remark in [*student.remarks, *teacher.remarks]:
            on_remark(remark)
    oracle = load_oracle(FOLDER / "oracle.safetensors", "demo")
    settings = described(student)
    if init_image is None and control is None:
        calibration = Calibration.load(FOLDER / "calibration.json")
        calibration.require(settings, oracle.fingerprint)
        threshold = Threshold.percentile(calibration, percentile)
        if spending is not None:
            threshold = Threshold.budget(calibration, spending)
            if on_remark and processes.is_main:
                on_remark(f"the teacher gets {threshold.rule}")
    else:
        threshold = Threshold.worst_fraction(percentile / 100)
    report_settings = {
        "command": "demo",
        "student": settings,
        "teacher": described(teacher),
        **({"percentile": percentile} if budget is None else {"budget": budget}),
        "seed": seed,
    }
    likeness = StructuralSimilarity() if init_image else None
    plan = Plan(student, teacher, threshold, SIZE, report_settings, likeness=likeness)
    load = _load if control is None else _load_controlled
    cast = Cast(load("student", processes.device), oracle, cache(lambda: load("teacher", processes.device)))
    asked = [Asked(*each) for each in islice(cycle(zip(prompts, sources, hints, strict=True)), count)]
    jobs = jobs_for(asked, seed)
    with progress(processes, count) as watcher:
        result = run(cast, plan, jobs, BATCH_SIZE, out, processes, watcher)
    return result and result[0]


def _of_prompts(given: Path | None, prompts: int) -> list[Path | None]:
    """The picture of each prompt."""
    if given is None:
        return [None] * prompts
    images = find_images([given]).images
    if len(images) not in (1, prompts):
        raise ValueError(f"{len(images)} pictures in {given} for {prompts} prompts; expected one, or one for each")
    return images * prompts if len(images) == 1 else images


def _load(part: str, device: torch.device) -> DemoModel:
    return DemoModel(family.load(part, device), device)


def _load_controlled(part: str, device: torch.device) -> ControlledDemo:
    """The student is CoDi's, a ControlNet of few steps on the teacher's network; the teacher has one of its own."""
    return ControlledDemo(family.load("teacher", device), load_control(CONTROLS[part]), device)
