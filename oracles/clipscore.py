"""CLIPScore: 100 times the cosine of CLIP's image and text embeddings (Hessel et al. 2021, eq. 1, not clipped at 0)."""

from __future__ import annotations

from torch import Tensor

from .activation import identity, in_openai_layout
from .clip import ClipOracle, is_clip, load_clip
from .preprocess import openai_clip, transformers_clip
from .tensors import TensorFile


class ClipScore(ClipOracle):
    """Scores are in -100 to 100, about 15 to 40 on real pictures; any CLIP in OpenAI's or transformers' layout.

    Pictures and texts are prepared as the package of that layout does.
    """

    family = "clipscore"
    scale = 100.0

    def prepare(self, images: Tensor) -> Tensor:
        way = openai_clip if self.cleans else transformers_clip
        return way(images, self.size)


def fits(file: TensorFile) -> bool:
    return is_clip(file.shapes)


def load(file: TensorFile, family: str, fingerprint: str, dtype, encoder) -> ClipScore:
    network = load_clip(file, dtype)
    return ClipScore(network, identity(file, fingerprint, network), cleans=in_openai_layout(file))
