"""What a student's file says about itself: written by the trainer and its exports, read by the sampler node."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from .files import CheckpointError, read_header

PREFIX = "understudy_"


@dataclass(frozen=True)
class StudentFile:
    """The metadata of a student's safetensors file, one entry ``understudy_<field>`` for each field.

    method: the recipe's. kind: "sd1", "sdxl" or "demo". network: "unet" (diffusers' or the original layout), "lora" or
    "checkpoint". teacher, teacher_sha256: the file or folder it was distilled from, and its fingerprint.
    prediction: "eps" or "v". sampler: a family of Understudy Student Sampler. steps and cfg are what to sample with;
    cfg is 1 where the guidance is inside the network. guidance: the scale that was distilled in, as cfg (LCM's w is
    cfg - 1); 1 for none. For a student that takes the scale as an input it is the one to export with.
    rank, alpha: of a LoRA.
    """

    method: str
    kind: str
    network: str
    teacher: str
    teacher_sha256: str
    prediction: str
    sampler: str
    steps: int
    cfg: float = 1.0
    guidance: float = 1.0
    rank: int | None = None
    alpha: float | None = None

    def metadata(self) -> dict[str, str]:
        """Entries for a safetensors file; :meth:`read` takes them back."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {f"{PREFIX}{name}": str(value) for name, value in values.items() if value is not None}

    @classmethod
    def read(cls, path: str | Path) -> StudentFile:
        """The metadata of a file. Raises FileNotFoundError, or CheckpointError for a file that is no student's."""
        metadata = read_header(path).metadata
        if f"{PREFIX}method" not in metadata:
            raise CheckpointError(
                f"{path} does not say how to sample it; expected a student's file from 'understudy export'"
            )
        given = {field.name: metadata.get(f"{PREFIX}{field.name}") for field in fields(cls)}
        if missing := [name for name in REQUIRED if given[name] is None]:
            raise CheckpointError(f"{path}: its metadata lacks {', '.join(PREFIX + name for name in missing)}")
        try:
            numbers = {name: read(given[name]) for name, read in NUMBERS.items() if given[name] is not None}
        except ValueError as error:
            raise CheckpointError(f"{path}: its metadata cannot be read: {error}") from error
        return cls(**{name: given[name] for name in REQUIRED} | numbers)


NUMBERS = {"steps": int, "cfg": float, "guidance": float, "rank": int, "alpha": float}
REQUIRED = ("method", "kind", "network", "teacher", "teacher_sha256", "prediction", "sampler", "steps")
