"""A student in two halves: a ControlNet, and what trained of the base beside it. A run keeps both in one file."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from ...files.student_file import BASE_PART, StudentFile
from .kind import Kind
from .kinds import KINDS


def parts(student: StudentFile) -> tuple[str, ...]:
    """What trained, each of which is exported by itself."""
    return (student.trained, *({student.base_trained} & BASE_PART.keys()))


def half(student: StudentFile, kind: Kind, title: Callable[[Kind], str]) -> StudentFile:
    """What the export of one half says: of itself, and the name of the other's usual one. The same for a whole student.

    title: a kind's file name.
    """
    if len(parts(student)) == 1:
        return student
    if student.trained in kind.trained:
        return replace(student, companion=title(_usual(student, student.base_trained)), rank=None, alpha=None)
    other = title(_usual(student, student.trained))
    return replace(student, trained=student.base_trained, base_trained=None, companion=other)


def weights_of(half: StudentFile, whole: StudentFile, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Those of one half, by the names that they have alone."""
    if len(parts(whole)) == 1:
        return weights
    prefix = BASE_PART[whole.base_trained]
    if half.trained == whole.trained:
        return {key: value for key, value in weights.items() if not key.startswith(prefix)}
    alone = prefix if half.trained == "full" else ""  # a LoRA's names begin so anyway
    return {key.removeprefix(alone): value for key, value in weights.items() if key.startswith(prefix)}


def _usual(student: StudentFile, part: str) -> Kind:
    return next(kind for kind in KINDS if student.base in kind.architectures and part in kind.usual_for)
