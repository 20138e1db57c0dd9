"""HPSv2 and HPSv2.1 (Wu et al. 2023): OpenCLIP's ViT-H-14 trained on human choices."""

from __future__ import annotations

from torch import Tensor

from .activation import identity, in_openai_layout
from .clip import ClipOracle, is_clip, load_clip
from .preprocess import longer_side_padded, normalised, without_alpha
from .tensors import TensorFile


class HumanPreferenceScore(ClipOracle):
    """Scores are the plain cosine, -1 to 1; leaderboards show it times 100. ``family`` is "hpsv2" or "hpsv2.1"."""

    def __init__(self, network, fingerprint: str, family: str):
        super().__init__(network, fingerprint, cleans=True)
        self.family = family

    def prepare(self, images: Tensor) -> Tensor:
        return normalised(longer_side_padded(without_alpha(images), self.size))


def fits(file: TensorFile) -> bool:
    return is_clip(file.shapes) and in_openai_layout(file)


def load(file: TensorFile, family: str, fingerprint: str, dtype, encoder) -> HumanPreferenceScore:
    network = load_clip(file, dtype)
    return HumanPreferenceScore(network, identity(file, fingerprint, network), family)
