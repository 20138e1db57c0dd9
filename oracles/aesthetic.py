"""Aesthetic predictors: a head on the normalised embedding of an image tower; the prompt is not read.

LAION's v2 (Schuhmann 2022) sits on OpenAI's CLIP ViT-L/14, v2.5 (discus0434 2024) on SigLIP so400m-patch14-384. The
published files hold the head alone, so the tower's file is asked for; ``understudy oracle convert`` joins the two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..files import CheckpointError, fill, sha256
from .activation import identity
from .base import Oracle
from .clip import load_image_tower
from .heads import linear_head
from .preprocess import normalised, openai_clip, resized, without_alpha
from .tensors import Renamed, TensorFile, shape_of, shapes_of, without_prefix

HEADS = {"laion-aesthetic-v2": "layers.", "aesthetic-v2.5": "scoring_head."}
TOWERS = {
    "laion-aesthetic-v2": "OpenAI's CLIP ViT-L/14 (whole, or its image half)",
    "aesthetic-v2.5": "SigLIP so400m-patch14-384 (whole, or its image half)",
}
TOWER = ("vision_model.", "visual_projection.")  # in a file that holds both
SIGLIP_SIDE = 384


class AestheticNetwork(nn.Module):
    """``tower`` and ``head``, which stays in float32; forward: pixels ``[B, 3, S, S]`` to scores ``[B]``."""

    def __init__(self, tower: nn.Module, head: nn.Module):
        super().__init__()
        self.tower, self.head = tower, head

    def forward(self, pixels: Tensor) -> Tensor:
        output = self.tower(pixel_values=pixels.to(next(self.tower.parameters()).dtype))
        embedding = output.image_embeds if "image_embeds" in output else output.pooler_output
        return self.head(F.normalize(embedding.float(), dim=-1))[:, 0]


class Aesthetic(Oracle):
    """Scores are about 1 to 10. ``family`` is "laion-aesthetic-v2" or "aesthetic-v2.5".

    ``fingerprint`` is of the head's file and the encoder's where those are two.
    """

    reads_prompts = False

    def __init__(self, network: AestheticNetwork, fingerprint: str, family: str):
        self.network, self.fingerprint, self.family = network, fingerprint, family

    def prepare(self, images: Tensor) -> Tensor:
        size = self.network.tower.config.image_size
        if self.family == "laion-aesthetic-v2":
            return openai_clip(images, size)
        # Squeezed to a square.
        return normalised(resized(without_alpha(images), size, size), (0.5,) * 3, (0.5,) * 3)

    def score_prepared(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        return self.network(pixels)


def fits_laion(file: TensorFile) -> bool:
    return "layers.0.weight" in file


def fits_v25(file: TensorFile) -> bool:
    return "scoring_head.0.weight" in file


def load(file: TensorFile, family: str, fingerprint: str, dtype, encoder: str | Path | None) -> Aesthetic:
    prefix = HEADS[family]
    whole = any(key.startswith("vision_model.") for key in file)
    if not whole and encoder is None:
        raise CheckpointError(
            f"{file.path} is only the head of {family}; it also needs the image encoder {TOWERS[family]}. "
            "Name that file as the encoder, or make one file of both: understudy oracle convert HEAD --encoder FILE"
        )
    if whole:
        tower = _tower(file, family, dtype)
        fingerprint = identity(file, fingerprint, tower)
    else:
        encoder_file = TensorFile(encoder)
        tower = _tower(encoder_file, family, dtype)
        # Another encoder makes other scores of the same head.
        second = identity(encoder_file, sha256(encoder), tower)
        fingerprint = hashlib.sha256(f"{fingerprint} {second}".encode()).hexdigest()
    table = without_prefix(file, prefix)
    table |= {key: key for key in file if not key.startswith((prefix, *TOWER) if whole else prefix)}
    tensors = Renamed(file, table)
    with torch.device("meta"):
        head = linear_head(file.path, shapes_of(tensors), "")
    head = fill(file.path, head, tensors, torch.float32)
    width, wanted = _width(tower), head[0].in_features
    if width != wanted:
        raise CheckpointError(
            f"{encoder or file.path} makes embeddings of {width} numbers; the head in {file.path} takes {wanted}. "
            f"{family} needs {TOWERS[family]}"
        )
    return Aesthetic(AestheticNetwork(tower, head), fingerprint, family)


def _tower(file: TensorFile, family: str, dtype: torch.dtype) -> nn.Module:
    if family == "laion-aesthetic-v2":
        if not {"visual.proj", "visual_projection.weight"} & file.keys():
            raise CheckpointError(
                f"{file.path} is no CLIP's image encoder: it lacks visual_projection.weight. "
                f"{family} needs {TOWERS[family]}"
            )
        return load_image_tower(file, dtype)
    return load_siglip_tower(file, dtype)


def load_siglip_tower(file: TensorFile, dtype: torch.dtype) -> nn.Module:
    """transformers' ``SiglipVisionModel`` from a file of a whole SigLIP or of its image half.

    Raises CheckpointError.
    """
    from transformers import SiglipVisionConfig, SiglipVisionModel

    tensors = Renamed(file, {key: key for key in file if key.startswith("vision_model.")})
    shapes = shapes_of(tensors)
    first = "vision_model.encoder.layers.0.mlp.fc1.weight"
    if first not in shapes or "vision_model.head.probe" not in shapes:
        raise CheckpointError(
            f"{file.path} is no SigLIP in transformers' layout; aesthetic-v2.5 needs {TOWERS['aesthetic-v2.5']}"
        )
    inner, width = shapes[first]
    patch = shape_of(file.path, shapes, "vision_model.embeddings.patch_embedding.weight")[-1]
    side = round(shape_of(file.path, shapes, "vision_model.embeddings.position_embedding.weight")[0] ** 0.5)
    config = SiglipVisionConfig(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=len({key.split(".")[3] for key in shapes if key.startswith("vision_model.encoder.layers.")}),
        num_attention_heads=max(width // 72, 1) if width % 72 == 0 else max(width // 64, 1),
        # 27 patches of 14 pixels leave 6 of the published network's 384 unseen.
        image_size=SIGLIP_SIDE if SIGLIP_SIDE // patch == side else patch * side,
        patch_size=patch,
    )
    with torch.device("meta"):
        network = SiglipVisionModel(config)
    if "vision_model.head.probe" not in network.state_dict():  # transformers 5 dropped the prefix
        tensors = Renamed(file, without_prefix(file, "vision_model."))
    return fill(file.path, network, tensors, dtype)


def _width(tower: nn.Module) -> int:
    projection = getattr(tower, "visual_projection", None)
    return tower.config.hidden_size if projection is None else projection.out_features
