"""What every file of a student has to stand: numbers in its precision, and the names and shapes of its readers."""

from collections.abc import Mapping
from pathlib import Path

import torch

from ...files import CheckpointError, preview, read_header

Shapes = Mapping[str, tuple[int, ...]]


def cast(tensors: Mapping[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """In ``dtype``, on the CPU. Raises CheckpointError for weights that are no numbers, or none in it."""
    cast = {key: value.detach().to("cpu", dtype).contiguous() for key, value in tensors.items()}
    if broken := [key for key, value in cast.items() if not value.isfinite().all()]:
        finite = all(tensors[key].isfinite().all() for key in broken)
        name = str(dtype).removeprefix("torch.")
        where = "too large for it; take bfloat16 or float32" if finite else "infinite or not numbers already"
        raise CheckpointError(f"as {name} the weights {preview(broken)} are {where}")
    return cast


def check(path: Path, expected: Shapes, base: object) -> None:
    """Read a written file back. Raises CheckpointError unless it holds what the loaders of ``base`` look for."""
    found = read_header(path).shapes
    wrong = {
        "lacks": expected.keys() - found.keys(),
        "has, unlike its base,": found.keys() - expected.keys(),
        "has in another shape": [key for key in expected.keys() & found.keys() if expected[key] != found[key]],
    }
    for what, keys in wrong.items():
        if keys:
            raise CheckpointError(f"the export for {base} {what} {preview(keys)}; nothing was written")
