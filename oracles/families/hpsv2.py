"""HPSv2 (Wu et al. 2023): OpenCLIP's ViT-H-14 trained on human choices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..activation import identity, in_openai_layout
from ..clip import ClipOracle, activation_told, is_clip, is_huge, load_clip
from ..family import Family, Published, on_hub
from ..preprocess import longer_side_padded, normalised, without_alpha
from ..tensors import TensorFile

if TYPE_CHECKING:
    from torch import Tensor


class HumanPreferenceScore(ClipOracle):
    """Scores are the plain cosine, -1 to 1; leaderboards show it times 100."""

    cleans = True

    def prepare(self, images: Tensor) -> Tensor:
        return normalised(longer_side_padded(without_alpha(images), self.size))


def fits(file: TensorFile) -> bool:
    return is_clip(file.shapes) and in_openai_layout(file)


def load(file: TensorFile, fingerprint: str, dtype, encoder) -> HumanPreferenceScore:
    network = load_clip(file, dtype)
    return HumanPreferenceScore(network, identity(file, fingerprint, network))


FAMILY = Family(
    name="hpsv2",
    title="HPSv2",
    unit="cosine; leaderboards show it times 100",
    takes="`HPS_v2_compressed.pt`",
    fits=fits,
    is_guessed=is_huge,
    load=load,
    details=activation_told,
    published=(
        Published(
            name="hpsv2",
            file="HPS_v2_compressed.pt",
            url=on_hub("xswu/HPSv2", "HPS_v2_compressed.pt"),
            licence="Apache-2.0",
            source="Wu et al. 2023, arXiv 2306.09341",
            sha256="07cb0d20626232204ca3a6ec53ff5984e7e53212a8a7b0e0ec2bac1bdaf125a1",
            size=1_972_484_501,
        ),
    ),
)
