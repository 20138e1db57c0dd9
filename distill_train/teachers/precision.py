"""The precision that a recipe asks for: of frozen weights, and of the passes under autocast."""

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device | str, precision: str) -> torch.autocast:
    """Within, passes on ``device`` run in ``precision``, a key of ``DTYPES``; with "fp32" nothing changes."""
    half = DTYPES[precision] if precision != "fp32" else None
    return torch.autocast(torch.device(device).type, half, enabled=half is not None)


def whole_precision(device: torch.device | str) -> torch.autocast:
    """Within, passes on ``device`` run in the precision of their weights, whatever a recipe asks for."""
    return torch.autocast(torch.device(device).type, enabled=False)
