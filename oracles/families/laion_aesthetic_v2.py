"""LAION's aesthetic predictor v2 (Schuhmann 2022): a head on OpenAI's CLIP ViT-L/14."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...files import CheckpointError
from ..clip import activation_in, load_image_tower
from ..family import Encoder, Family, Published
from ..heads import PLAIN_OR_RELU, Aesthetic, Head, is_whole, joined
from ..preprocess import openai_clip
from ..tensors import TensorFile
from .clipscore import VIT_L_14

if TYPE_CHECKING:
    from torch import Tensor, nn

HEAD = Head("layers.", PLAIN_OR_RELU)


class LaionAesthetic(Aesthetic):
    def prepare(self, images: Tensor) -> Tensor:
        return openai_clip(images, self.network.tower.config.image_size)


def is_tower(file: TensorFile) -> bool:
    return bool({"visual_projection.weight", "visual.proj"} & file.keys())


def load(file: TensorFile, fingerprint: str, dtype, encoder: str | Path | None) -> LaionAesthetic:
    return LaionAesthetic(*joined(FAMILY, HEAD, _tower, file, fingerprint, dtype, encoder))


def details(file: TensorFile) -> dict[str, str]:
    kind = {"head": HEAD.kind(file)}
    return kind | ({"activation": activation_in(file)} if is_whole(file) else {})


def _tower(file: TensorFile, dtype) -> nn.Module:
    if not is_tower(file):
        raise CheckpointError(
            f"{file.path} is no CLIP's image encoder: it lacks visual_projection.weight. "
            f"{FAMILY.name} needs {FAMILY.encoder.words}"
        )
    return load_image_tower(file, dtype)


FAMILY = Family(
    name="laion-aesthetic-v2",
    title="LAION aesthetic v2",
    unit="about 1 to 10; reads no prompt",
    takes="the `.pth`, linear or with ReLU, and CLIP ViT-L/14 as encoder",
    fits=HEAD.is_in,
    load=load,
    details=details,
    reads_prompts=False,
    encoder=Encoder("OpenAI's CLIP ViT-L/14 (whole, or its image half)", VIT_L_14, is_tower),
    published=(
        Published(
            name="laion-aesthetic-v2",
            file="sac+logos+ava1-l14-linearMSE.pth",
            url="https://github.com/christophschuhmann/improved-aesthetic-predictor/raw/main/"
            "sac%2Blogos%2Bava1-l14-linearMSE.pth",
            licence="Apache-2.0",
            source="github.com/christophschuhmann/improved-aesthetic-predictor",
            sha256="21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0",
            size=3_714_759,
        ),
    ),
)
