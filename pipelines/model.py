"""A latent text-to-image model as the adaptive run sees it, and how student and teacher draw with one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from ..predictor import Predicted, Predictor
from ..predictor.denoiser import pooled_text
from ..samplers.consistency import sample_consistency
from ..samplers.decisions import BY_STRATEGY
from ..samplers.denoisers import Counted, DiscreteDenoiser, Guided
from ..samplers.noise import PerImageNoise, initial_noise
from ..samplers.rollback import noise_variance, schedule_fraction
from ..samplers.schedules import SCHEDULES, last_consistency_steps, last_steps
from ..samplers.solvers import sample_dpmpp_2m, sample_euler

SOLVERS = {"dpmpp_2m": sample_dpmpp_2m, "euler": sample_euler}
STUDENT_SAMPLERS = ("consistency", *SOLVERS)
SCHEDULERS = tuple(name for name in SCHEDULES if name != "consistency")
STRATEGIES = tuple(BY_STRATEGY)
ROLLBACK_MODES = ("noise", "schedule")

# Every image has a seed of its own; these tell its three independent streams of noise apart.
STARTING_NOISE, STUDENT_NOISE, REFINE_NOISE = 0, 1, 2

OnStep = Callable[[int, int], None]  # (step, steps)


class LatentModel(ABC):
    """A denoiser with its text conditioning and its autoencoder.

    ``denoiser`` works on float32 latents, and calls ``network``. ``embeds_guidance`` says that the network takes the
    guidance scale as an input (latent consistency models), so that a guided step is one evaluation. ``predictor``, with
    a prior, moves what it draws as a student.
    """

    denoiser: DiscreteDenoiser
    network: torch.nn.Module
    device: torch.device
    embeds_guidance = False
    predictor: Predictor | None = None

    @abstractmethod
    def conditioning(self, prompts: Sequence[str], cfg: float, size: tuple[int, int]) -> dict[str, dict]:
        """``{"cond": ..., "uncond": ...}`` for :class:`Guided`; without "uncond" where ``cfg`` needs none."""

    @abstractmethod
    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Latents, float32, of images ``[B, 3, H, W]`` in [0, 1]."""

    @abstractmethod
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Images ``[B, 3, H, W]``, float32 in [0, 1]."""

    @abstractmethod
    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """``[C, h, w]`` for pictures of ``size`` (height, width); raises ValueError for a size it cannot draw."""


@dataclass(frozen=True)
class StudentPlan:
    """How the student draws. ``cfg`` 1 is no guidance.

    ``strength`` is the fraction of the schedule that an image runs through from its source, the host's ``denoise``;
    None where there is no source. Raises ValueError for an unknown sampler and for a strength outside (0, 1].
    """

    steps: int = 4
    cfg: float = 1.0
    sampler: str = "consistency"
    strength: float | None = None

    def __post_init__(self):
        _choose("student sampler", self.sampler, STUDENT_SAMPLERS)
        _at_least_one("student steps", self.steps)
        _check_strength(self.strength)

    def sigmas(self, denoiser: DiscreteDenoiser) -> torch.Tensor:
        """The student's sigmas ``[steps + 1]``. Raises ValueError where its grid has not as many at that strength."""
        fraction = 1.0 if self.strength is None else self.strength
        if self.sampler == "consistency":
            return last_consistency_steps(denoiser, self.steps, fraction, called="strength")
        return last_steps(partial(SCHEDULES["trailing"], denoiser), self.steps, fraction)

    @property
    def remarks(self) -> list[str]:
        """What a user should know of it."""
        return _strength_remarks("student", self.steps, self.strength)


@dataclass(frozen=True)
class TeacherPlan:
    """How the teacher redoes a rejected image.

    ``steps`` are those it executes. ``rollback`` is how far a refined image goes back towards noise: the noise's share
    of the variance or a fraction of the schedule, by ``rollback_mode``; without it what the table of presets has for
    Stable Diffusion. ``alone_steps`` are what the teacher would take from pure noise,
    for the comparison; None is the whole of the schedule that ``steps`` are the end of. ``strength`` is the student's,
    for images with a source: regenerating starts from that, and so would the teacher alone.
    Raises ValueError for unknown names.
    """

    steps: int = 12
    cfg: float = 7.5
    sampler: str = "dpmpp_2m"
    scheduler: str = "karras"
    strategy: str = "refine"
    rollback: float = 0.41
    rollback_mode: str = "noise"
    alone_steps: int | None = None
    strength: float | None = None

    def __post_init__(self):
        _choose("teacher sampler", self.sampler, tuple(SOLVERS))
        _choose("scheduler", self.scheduler, SCHEDULERS)
        _choose("strategy", self.strategy, STRATEGIES)
        _choose("rollback mode", self.rollback_mode, ROLLBACK_MODES)
        _at_least_one("teacher steps", self.steps)
        _check_strength(self.strength)
        if not 0 < self.rollback <= 1:
            raise ValueError(f"rollback is {self.rollback:g}; expected above 0 and at most 1")

    def sigmas(self, denoiser: DiscreteDenoiser) -> torch.Tensor:
        """The teacher's sigmas ``[steps + 1]``."""
        scheduler = partial(SCHEDULES[self.scheduler], denoiser)
        if self.strategy == "regenerate":
            return last_steps(scheduler, self.steps, 1.0 if self.strength is None else self.strength)
        if self._by_schedule:
            return schedule_fraction(scheduler, self.steps, self.rollback)
        return noise_variance(scheduler, self.steps, self.rollback, denoiser.sigma_min, denoiser.sigma_max)

    def full_steps_from_noise(self, denoiser: DiscreteDenoiser) -> int:
        """Steps of the teacher from pure noise, at the density at which it refines; from a source its part of them."""
        if self.strategy == "regenerate" and self.alone_steps is None:
            return self.steps
        return max(1, int(self._whole(denoiser) * (1.0 if self.strength is None else self.strength)))

    @property
    def remarks(self) -> list[str]:
        """What a user should know of it; where it refines, its start is not the source's."""
        return _strength_remarks("teacher", self.steps, self.strength) if self.strategy == "regenerate" else []

    @property
    def _by_schedule(self) -> bool:
        return self.rollback_mode == "schedule" or self.rollback == 1  # which in both modes is all of it

    def _whole(self, denoiser: DiscreteDenoiser) -> int:
        if self.alone_steps is not None:
            return self.alone_steps
        if self._by_schedule:
            return int(self.steps / self.rollback)
        start, steps = float(self.sigmas(denoiser)[0]), self.steps
        while float(SCHEDULES[self.scheduler](denoiser, steps)[-(self.steps + 1)]) > start * 1.0001 and steps < 1000:
            steps += 1
        return steps


def evaluations(student: StudentPlan, teacher: TeacherPlan, embeds_guidance: bool = False) -> tuple[int, int]:
    """What an image costs the student, and the teacher that redoes it, in evaluations.

    ``embeds_guidance`` is the student's; the teacher's guidance is taken for two passes a step.
    """
    first = 1 if student.cfg == 1 or embeds_guidance else 2
    return student.steps * first, teacher.steps * (1 if teacher.cfg == 1 else 2)


def draw(
    model: LatentModel,
    prompts: Sequence[str],
    seeds: Sequence[int],
    size,
    plan: StudentPlan,
    on_step: OnStep,
    sources: torch.Tensor | None = None,
    hints: torch.Tensor | None = None,
):
    """The student's images ``[B, 3, H, W]`` of prompts, and the network evaluations that each took.

    sources: ``[B, 3, H, W]`` in [0, 1], what the images start from at ``plan.strength``. hints: the same for the
    model's ControlNet.
    """
    sigmas = plan.sigmas(model.denoiser).to(model.device)
    noise = _noise(model, seeds, size)
    x = _start(model, noise, sigmas[0], sources)
    conditioning = _conditioning(model, prompts, plan.cfg, size, hints)
    around, knobs = None, {}
    if model.predictor is not None:
        z = model.predictor.drawn(noise, pooled_text(model.network, conditioning["cond"]))
        around = partial(Predicted, predictor=model.predictor, network=model.network, z=z, sigmas=sigmas)
    if plan.sampler == "consistency":
        knobs["noise_sampler"] = PerImageNoise(seeds, [STUDENT_NOISE] * len(seeds), x.shape[1:], model.device)
    sampler = sample_consistency if plan.sampler == "consistency" else SOLVERS[plan.sampler]
    return _sampled(model, sampler, plan.cfg, x, sigmas, conditioning, on_step, around, **knobs)


def redo(
    model: LatentModel,
    start: torch.Tensor | None,
    prompts: Sequence[str],
    seeds: Sequence[int],
    size,
    plan: TeacherPlan,
    on_step: OnStep,
    sources: torch.Tensor | None = None,
    hints: torch.Tensor | None = None,
):
    """The teacher's images of prompts, and the evaluations that each took.

    ``start`` is the student's images to refine, or None to regenerate from what the student started from: its noise and
    its ``sources``, which with ``hints`` are as in :func:`draw`.
    """
    denoiser = model.denoiser
    sigmas = plan.sigmas(denoiser).to(model.device)
    if start is None:
        x = _start(model, _noise(model, seeds, size), sigmas[0], sources)
    else:
        latents = model.encode(start.to(model.device))
        noise = PerImageNoise(seeds, [REFINE_NOISE] * len(seeds), latents.shape[1:], model.device)()
        x = denoiser.noise_scaling(sigmas[0], noise, latents)
    conditioning = _conditioning(model, prompts, plan.cfg, size, hints)
    return _sampled(model, SOLVERS[plan.sampler], plan.cfg, x, sigmas, conditioning, on_step)


def _noise(model: LatentModel, seeds: Sequence[int], size) -> torch.Tensor:
    return initial_noise(seeds, [STARTING_NOISE] * len(seeds), model.latent_shape(size), model.device)


def _start(model: LatentModel, noise: torch.Tensor, sigma: torch.Tensor, sources: torch.Tensor | None) -> torch.Tensor:
    """The sources at a noise level in the images' starting noise; at the highest one they leave no trace."""
    full = bool(sigma >= model.denoiser.sigma_max * 0.9999)
    blank = full or sources is None
    latents = torch.zeros_like(noise) if blank else model.encode(sources.to(model.device))
    return model.denoiser.noise_scaling(sigma, noise, latents, max_denoise=full)


def _conditioning(model: LatentModel, prompts: Sequence[str], cfg: float, size, hints: torch.Tensor | None):
    conditioning = model.conditioning(prompts, cfg, size)
    if hints is None:
        return conditioning
    hint = {"hint": hints.to(model.device)}
    return {branch: {**given, **hint} for branch, given in conditioning.items()}


def _sampled(model: LatentModel, sampler, cfg: float, x, sigmas, conditioning, on_step, around=None, **knobs):
    """around: what takes the place of the counted denoiser below guidance."""
    steps, counted = len(sigmas) - 1, Counted(model.denoiser)
    guided = Guided(around(counted) if around else counted, 1.0 if model.embeds_guidance else cfg)
    with torch.no_grad():
        latents = sampler(
            guided,
            x,
            sigmas,
            extra_args=conditioning,
            callback=lambda state: on_step(state["i"] + 1, steps),
            **knobs,
        )
        images = model.decode(latents)
    return images, counted.per_image(len(x))


def _choose(what: str, given: str, known: Sequence[str]) -> None:
    if given not in known:
        raise ValueError(f"{what} is {given!r}; expected one of {', '.join(known)}")


def _check_strength(given: float | None) -> None:
    if given is not None and not 0 < given <= 1:
        raise ValueError(f"strength is {given:g}; expected above 0 and at most 1")


def _strength_remarks(who: str, steps: int, strength: float | None) -> list[str]:
    """Where a strength below 1 is none, since the whole schedule has no more steps than are to be run."""
    if strength is None or strength == 1 or int(steps / strength) > steps:
        return []
    counted = "1 step" if steps == 1 else f"{steps} steps"
    return [
        f"a strength of {strength:g} in the {who}'s {counted} starts from all the noise, as 1 does, and nothing of the "
        "picture is left: take less, or more steps"
    ]


def _at_least_one(what: str, given: int) -> None:
    if given < 1:
        raise ValueError(f"{what} is {given}; expected at least 1")
