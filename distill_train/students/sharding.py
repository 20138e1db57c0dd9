"""Weights and figures of which several processes hold a part each, as FSDP has it."""

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from accelerate import Accelerator


def is_sharded(accelerator: "Accelerator") -> bool:
    return accelerator.distributed_type.value == "FSDP"


def whole(value: Tensor) -> Tensor:
    """A tensor of which processes may hold a part each; then all of them have to ask."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value
