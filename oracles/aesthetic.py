"""What the aesthetic predictors share: a head on the normalised embedding of an image tower; no prompt is read.

The published files hold the head alone, so the tower's file is asked for; ``understudy oracle convert`` joins the two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import CheckpointError, fill, sha256
from .activation import identity
from .base import Oracle
from .family import Family
from .heads import Layouts, head
from .tensors import Renamed, TensorFile, without_prefix

if TYPE_CHECKING:
    from torch import Tensor, nn

TOWER = ("vision_model.", "visual_projection.")  # in a file that holds both


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
    prefix: str,
    layouts: Layouts,
    load_tower: Callable,
    file: TensorFile,
    fingerprint: str,
    dtype,
    encoder: str | Path | None,
) -> tuple[nn.Module, str]:
    """Tower and head as one network, and its fingerprint; the head's names begin with ``prefix``.

    ``load_tower(file, dtype)`` gives the tower. Raises CheckpointError.
    """
    import torch
    from torch import nn

    whole = is_whole(file)
    if not whole and encoder is None:
        raise CheckpointError(
            f"{file.path} is only the head of {family.name}; it also needs the image encoder {family.encoder.words}. "
            "Name that file as the encoder, or make one file of both: understudy oracle convert HEAD --encoder FILE"
        )
    table = without_prefix(file, prefix)
    table |= {key: key for key in file if not key.startswith((prefix, *TOWER) if whole else prefix)}
    tensors = Renamed(file, table)
    with torch.device("meta"):
        layers = head(file.path, file.shapes, prefix, layouts)
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
