"""CLIPScore: 100 times the cosine of CLIP's image and text embeddings (Hessel et al. 2021, eq. 1, not clipped at 0)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..activation import identity, in_openai_layout
from ..clip import ClipOracle, activation_told, is_clip, load_clip
from ..family import Family, Published, on_hub
from ..preprocess import openai_clip, transformers_clip
from ..tensors import TensorFile

if TYPE_CHECKING:
    from torch import Tensor


class ClipScore(ClipOracle):
    """Scores are in -100 to 100, about 15 to 40 on real pictures; any CLIP in OpenAI's or transformers' layout.

    Pictures and texts are prepared as the package of that layout does.
    """

    scale = 100.0

    def __init__(self, network, fingerprint: str, cleans: bool):
        super().__init__(network, fingerprint)
        self.cleans = cleans

    def prepare(self, images: Tensor) -> Tensor:
        way = openai_clip if self.cleans else transformers_clip
        return way(images, self.size)


def fits(file: TensorFile) -> bool:
    return is_clip(file.shapes)


def load(file: TensorFile, fingerprint: str, dtype, encoder) -> ClipScore:
    network = load_clip(file, dtype)
    return ClipScore(network, identity(file, fingerprint, network), cleans=in_openai_layout(file))


VIT_L_14 = Published(
    name="clip-vit-large-patch14",
    file="clip-vit-large-patch14.safetensors",
    url=on_hub("openai/clip-vit-large-patch14", "model.safetensors"),
    licence="MIT (code); see the model page",
    source="Radford et al. 2021, arXiv 2103.00020; Hessel et al. 2021, arXiv 2104.08718",
    sha256="a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
    size=1_710_540_580,
    folder="clip_vision",
)

FAMILY = Family(
    name="clipscore",
    title="CLIPScore",
    unit="100 x cosine",
    takes="any CLIP in Hugging Face's, OpenAI's or OpenCLIP's layout",
    fits=fits,
    load=load,
    details=activation_told,
    published=(VIT_L_14,),
)
