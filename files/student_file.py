"""What a student's file says about itself: written by the trainer, read by its exports and by the sampler node."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path

from .headers import LONGEST_HEADER, CheckpointError, read_header

METHOD = "understudy_method"
EMBEDDED = "embedded"  # stands for a guidance scale that is an input of the network
TRAINED = {"full": "all weights", "lora": "a LoRA", "control": "a ControlNet"}  # what trained, of those with exports
BASE_PART = {"full": "base.", "lora": "lora_unet_"}  # begins the names of what trained beside a ControlNet, in its file
LEAST = {"steps": 1, "intervals": 1, "rank": 1, "guidance": 0}
SHIFT_BY_SIZE = "mu_low", "mu_high", "shift"  # all that a flow's noise levels at another size follow from


@dataclass(frozen=True)
class StudentFile:
    """The metadata of a student's safetensors file, one entry for each field that is not None.

    method: the recipe's; its entry is called ``understudy_method``. base: "sd1", "sdxl", "demo" or, of a model that
    ComfyUI loaded, its class there. teacher_file, teacher_sha256: what it was distilled from. prediction: "epsilon",
    "v_prediction", "sample" or "flow". trained: one of ``TRAINED``. steps, guidance, sampler, scheduler: what to sample
    with, in the host's words, but for the preset "consistency", whose sampler and scheduler are Student sampler's own;
    guidance is the cfg, or "embedded". preset: of that node, where it has one. intervals: of the grid that a
    consistency student knows. timestep_scaling: of LCM's boundary condition. w_min, w_max: the range of an embedded
    guidance scale; w is cfg - 1. rank, alpha: of a LoRA. folded_guidance: the cfg that an export fixed in the weights.
    terminal_snr: "zero" where the last timestep is noise alone. sigmas: the noise levels of those steps and a 0, where
    schedulers of hosts only come near; a flow's shift is in them. shift: that of a flow's time, one number. mu_low,
    mu_high: of a flow whose shift e^mu goes by size, mu for 256 and for 4096 squares of 16 x 16 pixels; `sigmas` are at
    `shift`.
    flux_guidance: what its teacher was told by an input for it. base_trained: what trained of the base beside a
    ControlNet, in the same file: one of ``BASE_PART``, or "frozen" for nothing. companion: the exported file of the
    other half, where two make one student.
    """

    method: str
    base: str
    teacher_file: str
    teacher_sha256: str
    prediction: str
    trained: str
    steps: int
    guidance: float | str
    sampler: str
    scheduler: str
    preset: str | None = None
    intervals: int | None = None
    timestep_scaling: float | None = None
    w_min: float | None = None
    w_max: float | None = None
    rank: int | None = None
    alpha: float | None = None
    folded_guidance: float | None = None
    terminal_snr: str | None = None
    shift: float | None = None
    sigmas: tuple[float, ...] | None = None
    mu_low: float | None = None
    mu_high: float | None = None
    flux_guidance: float | None = None
    base_trained: str | None = None
    companion: str | None = None

    def metadata(self) -> dict[str, str]:
        """Entries for a safetensors file; :meth:`read` takes them back."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values[METHOD] = values.pop("method")
        return {key: _text(value) for key, value in values.items() if value is not None}

    @classmethod
    def read(cls, path: str | Path) -> StudentFile:
        """The metadata of a file. Raises FileNotFoundError, or CheckpointError for a file that is no student's, or that
        says of it what cannot be."""
        metadata = read_header(path).metadata
        if METHOD not in metadata:
            raise CheckpointError(
                f"{path} does not say how to sample it; expected a file of 'understudy train' or 'understudy export'"
            )
        given = {field.name: metadata.get(field.name) for field in fields(cls)} | {"method": metadata[METHOD]}
        required = [field.name for field in fields(cls) if "None" not in str(field.type)]
        if missing := [name for name in required if given[name] is None]:
            raise CheckpointError(f"{path}: its metadata lacks {', '.join(missing)}")
        try:
            for name, number in NUMBERS.items():
                if given[name] not in (None, EMBEDDED):
                    given[name] = number(given[name])
        except ValueError as error:
            raise CheckpointError(f"{path}: its metadata cannot be read: {error}") from error
        student = cls(**given)
        if wrong := next(_impossible(student), None):
            raise CheckpointError(f"{path}: its metadata cannot be right: {wrong}; export the student again")
        return student


def is_student(path: str | Path) -> bool:
    """Whether a file says that it is a student's. Reads the header's bytes alone, since there may be thousands to ask.

    Raises OSError if it cannot be read.
    """
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return length <= LONGEST_HEADER and f'"{METHOD}"'.encode() in file.read(length)


def levels_text(sigmas: Sequence[float]) -> str:
    """Noise levels as a file has them, which ComfyUI's ManualSigmas reads, too: float32 to the last bit."""
    return ", ".join(f"{sigma:.9g}" for sigma in sigmas)


def _impossible(student: StudentFile) -> Iterator[str]:
    """What of a student's metadata no student can have."""
    for name in NUMBERS:
        value = getattr(student, name)
        if name == "sigmas" or value in (None, EMBEDDED):
            continue
        if not math.isfinite(value):
            yield f"{name} is {value}, expected a number"
        elif value < LEAST.get(name, value):
            yield f"{name} is {value:g}, expected at least {LEAST[name]}"
        elif name == "shift" and value <= 0:
            yield f"shift is {value:g}, expected more than 0"
    lacking = [name for name in SHIFT_BY_SIZE if getattr(student, name) is None]
    if lacking and (student.mu_low, student.mu_high) != (None, None):
        said = [name for name in SHIFT_BY_SIZE if name not in lacking]
        yield f"it has {' and '.join(said)} without {' and '.join(lacking)}, expected all of {', '.join(SHIFT_BY_SIZE)}"
    levels = student.sigmas
    if levels is not None and not (
        len(levels) == student.steps + 1
        and math.isfinite(levels[0])
        and levels[-1] == 0
        and all(a > b for a, b in pairwise(levels))
    ):
        expected = f"{student.steps + 1} numbers that fall to 0 for {student.steps} steps"
        yield f"sigmas are {levels_text(levels)}, expected {expected}"


def _text(value: float | str | tuple[float, ...]) -> str:
    if isinstance(value, tuple):
        return levels_text(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _levels(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


REAL = (
    "guidance", "timestep_scaling", "w_min", "w_max", "alpha", "folded_guidance", "shift", "mu_low", "mu_high",
    "flux_guidance",
)  # fmt: skip
NUMBERS = {"steps": int, "intervals": int, "rank": int, "sigmas": _levels} | dict.fromkeys(REAL, float)
