"""The heads of ImageReward and of both aesthetic predictors: linear layers without activations."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ..files import CheckpointError


def linear_head(path: Path, shapes: dict[str, tuple[int, ...]], prefix: str) -> nn.Sequential:
    """Linear layers for the tensors ``<prefix><number>.weight``, under the same numbers.

    The numbers between them were dropout, which does nothing when scoring. Raises CheckpointError, naming ``path``, if
    there are none, or if they do not end in one number.
    """
    numbers = sorted(int(key[len(prefix) :].split(".")[0]) for key in shapes if _is_weight(key, prefix))
    if not numbers:
        raise CheckpointError(f"{path} is not complete: it lacks {prefix}0.weight")
    head = nn.Sequential(*(nn.Identity() for _ in range(numbers[-1] + 1)))
    for number in numbers:
        outputs, inputs = shapes[f"{prefix}{number}.weight"]
        head[number] = nn.Linear(inputs, outputs)
    if outputs != 1:
        raise CheckpointError(f"{path}: its head ends in {outputs} numbers; expected one, the score")
    return head


def _is_weight(key: str, prefix: str) -> bool:
    return key.startswith(prefix) and key.endswith(".weight") and key[len(prefix) : -len(".weight")].isdigit()
