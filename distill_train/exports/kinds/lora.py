"""A LoRA of the UNet as kohya's files have it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..kind import Contents, Kind, Trained

if TYPE_CHECKING:
    from ....files.student_file import StudentFile


def contents(trained: Trained) -> Contents:
    from ...students.kohya import kohya_shapes, kohya_tensors
    from ..unet import trained_changes

    changes, layers = trained_changes(trained), trained.base.layers
    return Contents(kohya_tensors(changes, layers), kohya_shapes(changes, layers))


def metadata(student: StudentFile) -> dict[str, str]:
    from ...students.kohya import lora_metadata

    return lora_metadata(student.base, student.rank, student.alpha)


KIND = Kind(
    name="lora",
    folder="loras",
    node="Load LoRA",
    architectures=("sd1", "sdxl"),
    trained=("lora",),
    usual_for=("lora",),
    contents=contents,
    completes=True,
    modelspec="/lora",
    metadata=metadata,
)
