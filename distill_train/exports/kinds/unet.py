"""A UNet alone, under the original layout's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..kind import Contents, Kind, Trained

if TYPE_CHECKING:
    from ....files.student_file import StudentFile


def contents(trained: Trained) -> Contents:
    from ..unet import unet

    return unet(trained)


def notes(student: StudentFile) -> Sequence[str]:
    return ("Text encoders and VAE come from the base checkpoint: Load Checkpoint, or Load CLIP and Load VAE.",)


KIND = Kind(
    name="unet",
    folder="diffusion_models",
    node="Load Diffusion Model",
    architectures=("sd1", "sdxl"),
    trained=("full", "lora"),
    usual_for=("full",),
    contents=contents,
    notes=notes,
)
