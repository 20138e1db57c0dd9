"""The heads of ImageReward and of the aesthetic predictors: linear layers, and what their numbers say lay between them.

A checkpoint names a layer by its place, and what has no weights is not in it. So a published layout is known by the
places of its linear layers, exactly; any other may have activations that nothing tells of.

An aesthetic predictor is a head on the normalised embedding of an image tower; it reads no prompt. The published files
hold the head alone, so the tower's file is asked for; ``understudy oracle convert`` joins the two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import CheckpointError, fill, sha256
from .activation import identity
from .base import Oracle
from .clip import IMAGE_TOWER
from .family import Family
from .tensors import Renamed, TensorFile, without_prefix

if TYPE_CHECKING:
    from torch import Tensor, nn

# Where the linear layers stand, and what is between them beside dropout, which does nothing when scoring.
LINEAR, RELU = "linear", "with ReLU between its layers"
PLAIN = {(0, 2, 4, 6, 7): LINEAR}  # ImageReward's, and LAION's linearMSE: dropout behind each of the first three
PLAIN_OR_RELU = PLAIN | {(0, 3, 6, 9, 11): RELU}  # LAION's reluMSE: a ReLU behind each, then dropout
ALL_DROPOUT = {(0, 2, 4, 6, 8): LINEAR}  # aesthetic v2.5's: dropout behind each


@dataclass(frozen=True)
class Head:
    """A family's head: its layers are ``<prefix><number>.weight`` and ``.bias``, their numbers one of ``layouts``."""

    prefix: str
    layouts: Mapping[tuple[int, ...], str]

    def is_in(self, file: TensorFile) -> bool:
        return f"{self.prefix}0.weight" in file

    def kind(self, file: TensorFile) -> str:
        """``LINEAR`` or ``RELU``, by the numbers of the layers.

        Raises CheckpointError, naming the file, for numbers that are none of ``layouts``, for layers that do not
        follow from each other, and if they do not end in one number.
        """
        path, prefix, shapes, layouts = file.path, self.prefix, file.shapes, self.layouts
        numbers = tuple(sorted(int(key[len(prefix) :].split(".")[0]) for key in shapes if self._is_weight(key)))
        if numbers not in layouts:
            known = " or ".join(f"{', '.join(map(str, each))} ({kind})" for each, kind in layouts.items())
            raise CheckpointError(
                f"{path}: the layers of its head {prefix}* have the numbers "
                f"{', '.join(map(str, numbers)) or '(none)'}; expected {known}. What another head has between its "
                "layers no file tells, so scores would mean nothing"
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

    def layers(self, file: TensorFile) -> nn.Sequential:
        """The layers under their own numbers, without the file's weights. Raises as :meth:`kind`."""
        from torch import nn

        kind = self.kind(file)
        numbers = next(each for each in self.layouts if self.layouts[each] == kind)
        layers = nn.Sequential(*(nn.Identity() for _ in range(numbers[-1] + 1)))
        for number in numbers:
            outputs, inputs = file.shapes[f"{self.prefix}{number}.weight"]
            layers[number] = nn.Linear(inputs, outputs)
            if kind == RELU and number != numbers[-1]:
                layers[number + 1] = nn.ReLU()
        return layers

    def _is_weight(self, key: str) -> bool:
        number = key.removeprefix(self.prefix).removesuffix(".weight")
        return key == f"{self.prefix}{number}.weight" and number.isdigit()


class Aesthetic(Oracle):
    """``network`` holds ``tower`` and ``head``, which stays in float32. Scores are about 1 to 10.

    ``fingerprint`` is of the head's file and the encoder's where those are two.
    """

    def __init__(self, network: nn.Module, fingerprint: str):
        self.network, self.fingerprint = network, fingerprint

    def score_prepared(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        from torch.nn import functional as F

        tower = self.network.tower
        output = tower(pixel_values=pixels.to(next(tower.parameters()).dtype))
        embedding = output.image_embeds if "image_embeds" in output else output.pooler_output
        return self.network.head(F.normalize(embedding.float(), dim=-1))[:, 0]


def is_whole(file: TensorFile) -> bool:
    """Whether the file holds the tower as well."""
    return any(key.startswith("vision_model.") for key in file)


def joined(
    family: Family,
    head: Head,
    load_tower: Callable,
    file: TensorFile,
    fingerprint: str,
    dtype,
    encoder: str | Path | None,
) -> tuple[nn.Module, str]:
    """Tower and head as one network, and its fingerprint. ``load_tower(file, dtype)`` gives the tower.

    Raises CheckpointError.
    """
    import torch
    from torch import nn

    whole = is_whole(file)
    if not whole and encoder is None:
        raise CheckpointError(
            f"{file.path} is only the head of {family.name}; it also needs the image encoder {family.encoder.words}. "
            "Name that file as the encoder, or make one file of both: understudy oracle convert HEAD --encoder FILE"
        )
    table = without_prefix(file, head.prefix)
    table |= {key: key for key in file if not key.startswith((head.prefix, *IMAGE_TOWER) if whole else head.prefix)}
    tensors = Renamed(file, table)
    with torch.device("meta"):
        layers = head.layers(file)
    layers = fill(file.path, layers, tensors, torch.float32)
    if whole:
        tower = load_tower(file, dtype)
        fingerprint = identity(file, fingerprint, tower)
    else:
        encoder_file = TensorFile(encoder)
        tower = load_tower(encoder_file, dtype)
        # Another encoder makes other scores of the same head.
        second = identity(encoder_file, sha256(encoder), tower)
        fingerprint = hashlib.sha256(f"{fingerprint} {second}".encode()).hexdigest()
    width, wanted = _width(tower), layers[0].in_features
    if width != wanted:
        raise CheckpointError(
            f"{encoder or file.path} makes embeddings of {width} numbers; the head in {file.path} takes {wanted}. "
            f"{family.name} needs {family.encoder.words}"
        )
    return nn.ModuleDict({"tower": tower, "head": layers}), fingerprint


def _width(tower: nn.Module) -> int:
    projection = getattr(tower, "visual_projection", None)
    return tower.config.hidden_size if projection is None else projection.out_features
