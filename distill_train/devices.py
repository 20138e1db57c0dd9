"""Tensors on their way to a device."""

import torch
from torch import Tensor


def brought(value: Tensor, device: torch.device | str) -> Tensor:
    """A tensor of main memory on a device, without waiting: a GPU fetches only from memory that is pinned meanwhile."""
    if torch.device(device).type == "cuda" and value.device.type == "cpu":
        value = value.pin_memory()
    return value.to(device, non_blocking=True)
