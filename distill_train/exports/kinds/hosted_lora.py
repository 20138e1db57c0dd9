"""A LoRA of a network that ComfyUI loads, under the names that it has there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..kind import Contents, Kind, Trained

if TYPE_CHECKING:
    from ....files.student_file import StudentFile
    from ..hosted import HostedBase

ROUNDS = (
    "The base's weights have 8 bits: Load LoRA adds to them and rounds the sums. Load LoRA (Bypass) works beside them, "
    "as in training; without it the picture is near the student's, and not the same."
)


def contents(trained: Trained) -> Contents:
    import torch

    base = trained.base
    base.require_places(trained.weights)
    shapes = {key: tuple(value.shape) for key, value in trained.weights.items()}
    factors = {key: value for key, value in trained.weights.items() if not key.endswith(".alpha")}
    # By its own number, which half precision may round.
    alphas = {key: torch.tensor(trained.student.alpha) for key in shapes.keys() - factors.keys()}
    return Contents(factors, shapes, alphas, (ROUNDS,) if base.in_8_bits else ())


def notes(student: StudentFile) -> Sequence[str]:
    if student.flux_guidance is None:
        return ()
    return (
        f"It learned from a teacher that was told a guidance of {student.flux_guidance:g}: set FluxGuidance to it.",
    )


def metadata(student: StudentFile) -> Mapping[str, str]:
    return {"ss_network_module": "networks.lora", "ss_network_dim": str(student.rank)} | {
        "ss_network_alpha": f"{student.alpha:g}"
    }


def open_base(path: Path, comfyui: Path | None) -> HostedBase:
    from ..hosted import open_hosted

    return open_hosted(path, comfyui)


KIND = Kind(
    name="lora",
    folder="loras",
    node="Load LoRA",
    architectures=("comfyui",),
    trained=("lora",),
    usual_for=("lora",),
    contents=contents,
    completes=True,
    modelspec="/lora",
    notes=notes,
    metadata=metadata,
    open_base=open_base,
)
