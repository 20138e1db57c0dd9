"""The heads of ImageReward and of both aesthetic predictors: linear layers without activations."""

from __future__ import annotations

from torch import nn

from ..files import CheckpointError


def linear_head(shapes: dict[str, tuple[int, ...]], prefix: str) -> nn.Sequential:
    """Linear layers for the tensors ``<prefix><number>.weight``, under the same numbers.

    The numbers between them were dropout, which does nothing when scoring.
    """
    numbers = sorted(int(key[len(prefix) :].split(".")[0]) for key in shapes if _is_weight(key, prefix))
    if not numbers:
        raise CheckpointError(f"there is no {prefix}0.weight, so no head that scores")
    head = nn.Sequential(*(nn.Identity() for _ in range(numbers[-1] + 1)))
    for number in numbers:
        outputs, inputs = shapes[f"{prefix}{number}.weight"]
        head[number] = nn.Linear(inputs, outputs)
    return head


def _is_weight(key: str, prefix: str) -> bool:
    return key.startswith(prefix) and key.endswith(".weight") and key[len(prefix) : -len(".weight")].isdigit()
