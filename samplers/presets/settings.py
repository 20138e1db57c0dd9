"""What a row of the table can say. Data and the little maths that it needs; torch only, no host.

`u` is schedule time, 1 (noise) to 0. *Tokens*, on which some shifts depend, are the image's squares of 16 x 16 pixels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch

from ..boundary import TIMESTEP_SCALING
from ..denoisers import scaled_linear
from ..schedules import GRID, flux2_sigmas, given_sigmas, last_consistency_steps, last_steps, timestep_sigmas

NATIVE = 64 * 64  # tokens of 1024 x 1024 pixels


@dataclass(frozen=True)
class Discrete:
    """Stable Diffusion's 1,000 timesteps, in sigmas of the variance-exploding scale."""

    flow: ClassVar[bool] = False

    def sigma(self, u: float, tokens: int = NATIVE) -> float:
        """At timestep 1000 u - 1, where the host's `simple` schedule has the fraction u left."""
        ab = scaled_linear()
        at = ab[min(max(round(len(ab) * u) - 1, 0), len(ab) - 1)]
        return math.sqrt((1 - at) / at)


@dataclass(frozen=True)
class Shift:
    """A flow's plain shift s: sigma = s u / (1 + (s - 1) u). Also a patch: the shift to sample with instead."""

    value: float
    flow: ClassVar[bool] = True

    def sigma(self, u: float, tokens: int = NATIVE) -> float:
        return self.value * u / (1 + (self.value - 1) * u)


@dataclass(frozen=True)
class BySize:
    """mu linear in the tokens: `low` at `fewest`, `high` at `most` of them, and on beyond both."""

    low: float
    high: float
    fewest: int = 256
    most: int = 4096

    def at(self, tokens: int) -> float:
        return self.low + (self.high - self.low) * (tokens - self.fewest) / (self.most - self.fewest)


@dataclass(frozen=True)
class Mu:
    """A flow's shift as mu: sigma = e^mu / (e^mu + 1 / u - 1), the plain shift e^mu. Also a patch, as `Shift` is."""

    value: float | BySize
    flow: ClassVar[bool] = True

    def at(self, tokens: int) -> float:
        return self.value.at(tokens) if isinstance(self.value, BySize) else self.value

    def sigma(self, u: float, tokens: int = NATIVE) -> float:
        return Shift(math.exp(self.at(tokens))).sigma(u)


@dataclass(frozen=True)
class Lcm:
    """Patch: LCM's boundary condition around the network, on the timesteps of the grid that it was distilled on."""

    grid: int = GRID
    scaling: float = TIMESTEP_SCALING


@dataclass(frozen=True)
class X0:
    """Patch: the network predicts x0."""


@dataclass(frozen=True)
class Timesteps:
    """Schedule: the first `steps` of these."""

    values: tuple[int, ...]

    def sigmas(self, times, steps: int, fraction: float, tokens: int) -> torch.Tensor:
        return timestep_sigmas(times, self.values, steps, fraction)


@dataclass(frozen=True)
class Sigmas:
    """Schedule: these and no others, the last 0. by_size: of a flow that is shifted by size; these are at `shift`."""

    values: tuple[float, ...]
    shift: float = 1.0
    by_size: BySize | None = None

    def sigmas(self, times, steps: int, fraction: float, tokens: int) -> torch.Tensor:
        values = self.values
        if self.by_size is not None:
            unshifted, here = Shift(1 / self.shift), Mu(self.by_size)
            values = [here.sigma(unshifted.sigma(sigma), tokens) for sigma in values]
        return given_sigmas(values, steps, fraction)


@dataclass(frozen=True)
class Flux2:
    """Schedule: FLUX.2's, by steps and size."""

    def sigmas(self, times, steps: int, fraction: float, tokens: int) -> torch.Tensor:
        return last_steps(lambda count: flux2_sigmas(count, tokens), steps, fraction)


@dataclass(frozen=True)
class Grid:
    """Schedule: timesteps of the grid on which a consistency student was distilled."""

    spacing: str
    grid: int = GRID

    def sigmas(self, times, steps: int, fraction: float, tokens: int) -> torch.Tensor:
        return last_consistency_steps(times, steps, fraction, self.grid, self.spacing)


Patch = Shift | Mu | Lcm | X0
# A text is a scheduler of the host. The others compute their sigmas [steps + 1] from `times`, which has `sigmas` and
# `t_to_sigma` as our denoisers have them, steps, the fraction of the schedule to run (the host's denoise) and tokens.
Schedule = str | Timesteps | Sigmas | Flux2 | Grid


@dataclass(frozen=True)
class Latent:
    """A space of latents: its name, channels and the pixels to a cell's side; `frames`: of five dimensions.

    format: the host's class for it; two spaces may share one. Latents are the same only if their names are.
    """

    name: str
    channels: int
    pixels: int
    frames: bool = False
    format: str | None = None

    def tokens(self, height: int, width: int) -> int:
        """Those of the image of a latent of so many cells."""
        return round(height * width * (self.pixels / 16) ** 2)


@dataclass(frozen=True)
class Architecture:
    """A class of the host's `supported_models`, by whose name it goes.

    time: how it samples unpatched, None where that is not known. multiplier: what the network is told is sigma times
    this; a shift must be set with the same one.
    """

    time: Discrete | Shift | Mu | None
    latent: Latent
    multiplier: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a model is sampled.

    about: which models it is for. architectures: their keys, empty for any. sampler: the host's name for it, or one of
    `presets.SAMPLERS`, which `knobs` are for. steps, cfg: what to set; allowed steps and cfgs, from and to: what it is
    made for, None for anything. guidance: of a network that takes it as an input. negative: whether the negative prompt
    acts, at `cfg`. host: the first ComfyUI that has its class and reads its text encoder, or the one that its template
    names where that is later or the class is not in the history at hand; None for every one that this pack supports.
    """

    key: str
    about: str = ""
    architectures: tuple[str, ...] = ()
    sampler: str
    schedule: Schedule
    steps: int
    allowed: Collection[int] | None = None
    cfg: float = 1.0
    cfgs: tuple[float, float] | None = None
    negative: bool = False
    patch: Patch | None = None
    guidance: float | None = None
    knobs: Mapping[str, float | bool] = field(default_factory=dict)
    host: str | None = None

    def objections(self, steps: int, cfg: float) -> list[str]:
        """What it is not made for, a sentence each, with what to set instead."""
        found = []
        if self.allowed is not None and steps not in self.allowed:
            made = listed(self.allowed)
            found.append(f"{self.key} is made for {made} steps, not {steps}: set steps to {self.steps}.")
        if self.cfgs is not None and not self.cfgs[0] <= cfg <= self.cfgs[1]:
            low, high = self.cfgs
            span = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            found.append(f"{self.key} is made for cfg {span}, not {cfg:g}: set cfg to {self.cfg:g}.")
        return found


@dataclass(frozen=True, kw_only=True)
class Teacher(Sampling):
    """A full model, of one architecture. cfg_norm: strength of the host's CFGNorm, which its guidance needs."""

    cfg_norm: float | None = None


@dataclass(frozen=True, kw_only=True)
class Student(Sampling):
    """A family of students, most of them made for cfg 1.

    files: regular expressions of published files, sought in `normalised` paths; a group `steps` is the number that the
    file was distilled for. lora: whether it is published as a LoRA, so that one among the LoRAs may be it, and not a
    style for it. teachers: their keys. rollback: how far back a teacher takes its images, as the fraction of
    the teacher's schedule that published settings have; `presets.way_back` says what that is as noise.
    """

    cfgs: tuple[float, float] | None = (1.0, 1.0)
    files: tuple[str, ...] = ()
    lora: bool = False
    teachers: tuple[str, ...] = ()
    rollback: float | None = None

    def match(self, path: str) -> re.Match | None:
        """Where the path of a file says that it is of this family."""
        name = normalised(path)
        return next((found for pattern in self.files if (found := re.search(pattern, name))), None)

    def steps_of(self, path: str) -> int | None:
        """The number of steps in a matching file's name, None where it says none."""
        found = self.match(path)
        number = found.groupdict().get("steps") if found else None
        return None if number is None else int(number)

    def as_in(self, path: str) -> Student:
        """The same family as a file of it is: for the number of steps in its name, where that says one."""
        steps = self.steps_of(path)
        return self if steps is None else replace(self, steps=steps, allowed=(steps,))

    def on_grid(self, grid: int | None, scaling: float | None) -> Student:
        """The same family as one was distilled: on its own grid of timesteps, between which schedulers of the host go,
        and with its own boundary, where the family has them; None changes nothing."""
        changes, lcm = {}, isinstance(self.patch, Lcm)
        if lcm:
            said = {"grid": grid, "scaling": scaling}
            changes["patch"] = replace(self.patch, **{key: value for key, value in said.items() if value is not None})
        if grid is not None and (lcm or isinstance(self.schedule, Grid)):
            changes["schedule"] = Grid("trailing" if lcm else self.schedule.spacing, grid)
        return replace(self, **changes)


def normalised(path: str) -> str:
    """A path in small letters, with - for whatever separates words: people rename Z_Image-Turbo as they like."""
    return re.sub(r"[^a-z0-9/]+", "-", path.lower().replace("\\", "/"))


def listed(values: Collection[int]) -> str:
    """Numbers in words: "4", "2, 4 or 8"; a range as "1 to 8"."""
    values = list(values)
    if len(values) > 2 and values == list(range(values[0], values[-1] + 1)):
        return f"{values[0]} to {values[-1]}"
    return " or ".join(filter(None, [", ".join(map(str, values[:-1])), str(values[-1])]))
