"""Embeddings of several sizes in one batch: each in the room of the largest, with its own size beside it.

Sizes, and what is a number rather than an embedding, are read by the program itself in every pass. They stay in main
memory, wherever the rest is: on a GPU each reading would wait for all that it has been told to do.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

SIZES = ".sizes"  # ends the name of the sizes [B, dimensions] of what has the name before it
NUMBER = ".number"  # ends the name of what is one number for a sample
Row = dict[str, Tensor]


def batch_of(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Single embeddings of the same names as a batch; zeros are added behind the smaller ones."""
    batch = {}
    for name, first in rows[0].items():
        values = [row[name] for row in rows]
        sizes = torch.tensor([value.shape for value in values]).reshape(len(rows), first.ndim)
        whole = first.new_zeros(len(rows), *sizes.amax(0).tolist())
        for place, value in zip(whole, values, strict=True):
            place[tuple(map(slice, value.shape))] = value
        batch |= {name: whole, name + SIZES: sizes}
    return batch


def rows_of(batch: Mapping[str, Tensor]) -> list[Row]:
    """The single embeddings of a batch, each in its own size: :func:`batch_of` the other way round."""
    names = [name for name in batch if not name.endswith(SIZES)]
    sizes = {name: batch[name + SIZES].tolist() for name in names}
    count = len(batch[names[0]])
    return [{name: batch[name][at][tuple(map(slice, sizes[name][at]))] for name in names} for at in range(count)]


def alike(rows: Sequence[Row]) -> list[list[int]]:
    """Places of rows, those whose tensors all have the same sizes together; in the order of their first."""
    groups: dict[tuple, list[int]] = {}
    for at, row in enumerate(rows):
        groups.setdefault(tuple(value.shape for value in row.values()), []).append(at)
    return list(groups.values())


def stays(name: str) -> bool:
    """Whether what has this name in a batch belongs in main memory."""
    return name.endswith((SIZES, NUMBER))
