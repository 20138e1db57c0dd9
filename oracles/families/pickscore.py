"""PickScore v1 (Kirstain et al. 2023): CLIP ViT-H-14 trained on choices between two pictures of one prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..activation import identity, in_openai_layout
from ..clip import ClipOracle, activation_told, is_clip, is_huge, load_clip
from ..family import Family, Published, on_hub
from ..preprocess import transformers_clip
from ..tensors import TensorFile

if TYPE_CHECKING:
    from torch import Tensor


class PickScore(ClipOracle):
    """Scores are the file's logit scale times the cosine; a difference of 1 is odds of e to 1 between two pictures."""

    @property
    def scale(self) -> Tensor:
        return self.network.logit_scale.exp()

    def prepare(self, images: Tensor) -> Tensor:
        return transformers_clip(images, self.size)


def fits(file: TensorFile) -> bool:
    return is_clip(file.shapes) and not in_openai_layout(file)


def load(file: TensorFile, fingerprint: str, dtype, encoder) -> PickScore:
    network = load_clip(file, dtype)
    return PickScore(network, identity(file, fingerprint, network))


FAMILY = Family(
    name="pickscore",
    title="PickScore",
    unit="logit scale x cosine",
    takes="PickScore v1, Hugging Face's layout",
    fits=fits,
    is_guessed=is_huge,
    load=load,
    details=activation_told,
    published=(
        Published(
            name="pickscore",
            file="PickScore_v1.safetensors",
            url=on_hub("yuvalkirstain/PickScore_v1", "model.safetensors"),
            licence="see the model page",
            source="Kirstain et al. 2023, arXiv 2305.01569",
            sha256="ef31ef6fc5ff4d9bb90dd232df4e145887ba62c5a03aa2841415f8c25f18d52e",
        ),
    ),
)
