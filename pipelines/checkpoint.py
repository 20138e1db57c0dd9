"""Open a student or teacher from wherever it is: a diffusers folder or a single file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from .folder import load_folder, read_folder
from .layout import Architecture
from .single_file import load_single_file, read_single_file
from .stable_diffusion import Components


@dataclass(frozen=True)
class Checkpoint:
    """A pipeline on disk, already known to be one; nothing is loaded before :meth:`load`."""

    path: Path
    architecture: Architecture

    def load(self, dtype: torch.dtype) -> Components:
        return (load_folder if self.path.is_dir() else load_single_file)(self.path, dtype)


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Look at the headers of a folder or file. Raises FileNotFoundError, or CheckpointError saying what it is not."""
    path = Path(path)
    if path.is_dir():
        return Checkpoint(path, read_folder(path))
    return Checkpoint(path, read_single_file(path)[0])
