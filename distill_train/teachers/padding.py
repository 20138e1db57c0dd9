"""Embeddings of several lengths in one batch: zeros behind the shorter ones, and a mask that says where they are."""

from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.nn import functional as F

MASK = "mask"


def pad(parts: Sequence[Mapping[str, Tensor]], names: Sequence[str], dim: int) -> list[dict[str, Tensor]]:
    """The parts with their tensors of these names as long in dimension ``dim`` as the longest; zeros are added behind.

    "mask" is one of the names, and so is zero there.
    """
    if not names:
        return [dict(part) for part in parts]
    longest = max(part[MASK].shape[dim] for part in parts)

    def behind(value: Tensor) -> Tensor:
        return F.pad(value, [0, 0] * (value.ndim - dim - 1) + [0, longest - value.shape[dim]])

    return [{key: behind(value) if key in names else value for key, value in part.items()} for part in parts]


def cut(row: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """A single prompt's embeddings without the padding."""
    if not names:
        return dict(row)
    length = int(row[MASK].sum())
    return {key: value[:length] if key in names else value for key, value in row.items()}
