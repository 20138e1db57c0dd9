"""The oracles that a command names, and the image encoders of those that are only a head."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ..oracles import load_oracle
from ..oracles.base import Oracle
from ..oracles.identify import is_head, require_oracle
from ..oracles.tensors import TensorFile


def load_oracles(
    paths: Sequence[Path],
    families: Sequence[str],
    encoders: Sequence[Path],
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> list[Oracle]:
    """Every oracle, on ``device``; the ``encoders`` go to the heads among them, in their order.

    Raises what :func:`load_oracle` raises, and ValueError unless there is one encoder for each head.
    """
    return [
        load_oracle(path, family, device, dtype, encoder)
        for path, family, encoder in zip(paths, families, _dealt(paths, encoders), strict=True)
    ]


def _dealt(paths: Sequence[Path], encoders: Sequence[Path]) -> list[Path | None]:
    if not encoders:
        return [None] * len(paths)  # a head says itself what it lacks
    files = [TensorFile(path) for path in paths]
    for file in files:
        require_oracle(file)
    heads = list(map(is_head, files))
    if not any(heads):
        raise ValueError(f"{', '.join(map(str, paths))}: no image encoder is needed; leave --encoder {encoders[0]} out")
    if len(encoders) != sum(heads):
        named = ", ".join(str(path) for path, head in zip(paths, heads, strict=True) if head)
        raise ValueError(
            f"{len(encoders)} --encoder for {sum(heads)} heads ({named}); give one for each in their order, "
            "or make one file of head and encoder: understudy oracle convert HEAD --encoder FILE --out FILE"
        )
    remaining = iter(encoders)
    return [next(remaining) if head else None for head in heads]
