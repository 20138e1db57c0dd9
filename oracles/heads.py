"""The heads of ImageReward and of the aesthetic predictors: linear layers, and what their numbers say lay between them.

A checkpoint names a layer by its place, and what has no weights is not in it. So a published layout is known by the
places of its linear layers, exactly; any other may have activations that nothing tells of.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..files import CheckpointError

# Where the linear layers stand, and what is between them beside dropout, which does nothing when scoring.
LINEAR, RELU = "linear", "with ReLU between its layers"
PLAIN = {(0, 2, 4, 6, 7): LINEAR}  # ImageReward's, and LAION's linearMSE: dropout behind each of the first three
PLAIN_OR_RELU = PLAIN | {(0, 3, 6, 9, 11): RELU}  # LAION's reluMSE: a ReLU behind each, then dropout
ALL_DROPOUT = {(0, 2, 4, 6, 8): LINEAR}  # aesthetic v2.5's: dropout behind each

Layouts = Mapping[tuple[int, ...], str]


def head_kind(path: Path, shapes: Mapping[str, tuple[int, ...]], prefix: str, layouts: Layouts) -> str:
    """``LINEAR`` or ``RELU``, by the numbers of the layers in ``<prefix><number>.weight``.

    Raises CheckpointError, naming ``path``, for numbers that are none of ``layouts``, for layers that do not follow
    from each other, and if they do not end in one number.
    """
    numbers = tuple(sorted(int(key[len(prefix) :].split(".")[0]) for key in shapes if _is_weight(key, prefix)))
    if numbers not in layouts:
        known = " or ".join(f"{', '.join(map(str, each))} ({kind})" for each, kind in layouts.items())
        raise CheckpointError(
            f"{path}: the layers of its head {prefix}* have the numbers {', '.join(map(str, numbers)) or '(none)'}; "
            f"expected {known}. What another head has between its layers no file tells, so scores would mean nothing"
        )
    inputs = None
    for number in numbers:
        shape = shapes[f"{prefix}{number}.weight"]
        if len(shape) != 2 or inputs not in (None, shape[1]):
            raise CheckpointError(
                f"{path}: {prefix}{number}.weight is {list(shape)}, which the layer before does not fit"
            )
        inputs = shape[0]
    if inputs != 1:
        raise CheckpointError(f"{path}: its head ends in {inputs} numbers; expected one, the score")
    return layouts[numbers]


def head(path: Path, shapes: Mapping[str, tuple[int, ...]], prefix: str, layouts: Layouts):
    """The ``torch.nn.Sequential`` of such a head, its layers under their own numbers. Raises as :func:`head_kind`."""
    from torch import nn

    kind = head_kind(path, shapes, prefix, layouts)
    numbers = next(each for each in layouts if layouts[each] == kind)
    layers = nn.Sequential(*(nn.Identity() for _ in range(numbers[-1] + 1)))
    for number in numbers:
        outputs, inputs = shapes[f"{prefix}{number}.weight"]
        layers[number] = nn.Linear(inputs, outputs)
        if kind == RELU and number != numbers[-1]:
            layers[number + 1] = nn.ReLU()
    return layers


def _is_weight(key: str, prefix: str) -> bool:
    return key.startswith(prefix) and key.endswith(".weight") and key[len(prefix) : -len(".weight")].isdigit()
