"""Aesthetic predictor v2.5 (discus0434 2024): a head on SigLIP so400m-patch14-384."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...files import CheckpointError, fill
from ..family import Encoder, Family, Published, on_hub
from ..heads import ALL_DROPOUT, Aesthetic, Head, joined
from ..preprocess import normalised, resized, without_alpha
from ..tensors import Renamed, TensorFile, shape_of, shapes_of, without_prefix

if TYPE_CHECKING:
    from torch import Tensor, nn

HEAD = Head("scoring_head.", ALL_DROPOUT)
SIDE = 384


class AestheticV25(Aesthetic):
    def prepare(self, images: Tensor) -> Tensor:
        size = self.network.tower.config.image_size
        # Squeezed to a square.
        return normalised(resized(without_alpha(images), size, size), (0.5,) * 3, (0.5,) * 3)


def is_tower(file: TensorFile) -> bool:
    return "vision_model.head.probe" in file


def load(file: TensorFile, fingerprint: str, dtype, encoder: str | Path | None) -> AestheticV25:
    return AestheticV25(*joined(FAMILY, HEAD, _tower, file, fingerprint, dtype, encoder))


def details(file: TensorFile) -> dict[str, str]:
    return {"head": HEAD.kind(file)}


def _tower(file: TensorFile, dtype) -> nn.Module:
    """transformers' ``SiglipVisionModel`` from a file of a whole SigLIP or of its image half."""
    import torch
    import transformers

    try:
        from transformers import SiglipVisionConfig, SiglipVisionModel
    except ImportError as error:
        raise CheckpointError(
            f"{FAMILY.title} needs SigLIP, which transformers has from 4.37 on; here is {transformers.__version__}, "
            "so choose an oracle of another family"
        ) from error
    tensors = Renamed(file, {key: key for key in file if key.startswith("vision_model.")})
    shapes = shapes_of(tensors)
    first = "vision_model.encoder.layers.0.mlp.fc1.weight"
    if first not in shapes or not is_tower(file):
        raise CheckpointError(
            f"{file.path} is no SigLIP in transformers' layout; {FAMILY.name} needs {FAMILY.encoder.words}"
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
        image_size=SIDE if SIDE // patch == side else patch * side,
        patch_size=patch,
    )
    with torch.device("meta"):
        network = SiglipVisionModel(config)
    if "vision_model.head.probe" not in network.state_dict():  # transformers 5 dropped the prefix
        tensors = Renamed(file, without_prefix(file, "vision_model."))
    return fill(file.path, network, tensors, dtype)


SIGLIP = Published(
    name="siglip-so400m-patch14-384",
    file="siglip-so400m-patch14-384.safetensors",
    url=on_hub("google/siglip-so400m-patch14-384", "model.safetensors"),
    licence="Apache-2.0",
    source="Zhai et al. 2023, arXiv 2303.15343",
    folder="clip_vision",
)

FAMILY = Family(
    name="aesthetic-v2.5",
    title="aesthetic v2.5",
    unit="about 1 to 10; reads no prompt",
    takes="the `.pth`, and SigLIP so400m-patch14-384 as encoder",
    fits=HEAD.is_in,
    load=load,
    details=details,
    reads_prompts=False,
    encoder=Encoder("SigLIP so400m-patch14-384 (whole, or its image half)", SIGLIP, is_tower),
    published=(
        Published(
            name="aesthetic-v2.5",
            file="aesthetic_predictor_v2_5.pth",
            url="https://github.com/discus0434/aesthetic-predictor-v2-5/raw/main/models/aesthetic_predictor_v2_5.pth",
            licence="AGPL-3.0",
            source="github.com/discus0434/aesthetic-predictor-v2-5",
            sha256="a6caf256b3dc434273c98dcb12f6bf17c5d4fc647d8df11f038386923dd06220",
            size=2_644_834,
        ),
    ),
)
