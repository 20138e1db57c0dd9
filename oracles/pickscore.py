"""PickScore v1 (Kirstain et al. 2023): CLIP ViT-H-14 trained on choices between two pictures of one prompt."""

from __future__ import annotations

from torch import Tensor

from .activation import identity, in_openai_layout
from .clip import ClipOracle, is_clip, load_clip
from .preprocess import transformers_clip
from .tensors import TensorFile


class PickScore(ClipOracle):
    """Scores are the file's logit scale times the cosine; a difference of 1 is odds of e to 1 between two pictures."""

    family = "pickscore"

    @property
    def scale(self) -> Tensor:
        return self.network.logit_scale.exp()

    def prepare(self, images: Tensor) -> Tensor:
        return transformers_clip(images, self.size)


def fits(file: TensorFile) -> bool:
    return is_clip(file.shapes) and not in_openai_layout(file)


def load(file: TensorFile, family: str, fingerprint: str, dtype, encoder) -> PickScore:
    network = load_clip(file, dtype)
    return PickScore(network, identity(file, fingerprint, network))
