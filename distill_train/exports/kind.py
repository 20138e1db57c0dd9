"""What is known of a kind of export: one record, from which the command, its help, docs and tests are made.

Nothing heavy is imported here or by a file of ``kinds``: the command's help lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from ...files.student_file import StudentFile
    from .base import Base
    from .hosted import HostedBase


class ExportError(ValueError):
    """An export that cannot be made; the message says which one can."""


@dataclass(frozen=True)
class Trained:
    """What an export is made from: a run's file, what is to be said of the part that is exported, its weights by their
    names there, and its base.
    """

    file: Path
    student: StudentFile
    weights: Mapping[str, torch.Tensor]
    base: Base | HostedBase


@dataclass(frozen=True)
class Contents:
    """tensors: what is written in the precision asked for. expected: the shapes that readers ask of all that is
    written. kept: what is written as it is. notes: what else its users need to know, by what its base is.
    """

    tensors: Mapping[str, torch.Tensor]
    expected: Mapping[str, tuple[int, ...]]
    kept: Mapping[str, torch.Tensor] = field(default_factory=dict)
    notes: Sequence[str] = ()


def _checkpoint(path: Path, comfyui: Path | None) -> Base:
    from .base import open_base

    return open_base(path)


def _no_notes(student: StudentFile) -> Sequence[str]:
    return ()


def _no_metadata(student: StudentFile) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True)
class Kind:
    """A file that a trained student can become. ``name`` is typed by users, and ends the file's own.

    folder: below the host's models folder. node: the stock one that loads it, by the title that users see.
    architectures: those it can be of, as `Teacher.kind`; several kinds may share a name if they share none of these.
    trained: which students it can be made of, as their files say; usual_for: those that become it where nobody chooses.
    ``contents(trained)`` makes it, and raises ExportError or CheckpointError. against: what its names and shapes are
    those of, in words. completes: it works on a base's network beside it. modelspec: what the model specification adds
    to the architecture's name. notes: what else its users need to know. metadata: entries beside those that all exports
    have. ``open_base(path, comfyui)`` reads what the student was distilled from, in need by the ComfyUI there.
    """

    name: str
    folder: str
    node: str
    architectures: tuple[str, ...]
    trained: tuple[str, ...]
    contents: Callable[[Trained], Contents]
    usual_for: tuple[str, ...] = ()
    against: str = "the base"
    completes: bool = False
    modelspec: str = ""
    notes: Callable[[StudentFile], Sequence[str]] = _no_notes
    metadata: Callable[[StudentFile], Mapping[str, str]] = _no_metadata
    open_base: Callable[[Path, Path | None], Base | HostedBase] = _checkpoint
