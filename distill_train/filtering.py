"""Keep only what an oracle likes: a student that is taught by the better of the teacher's samples (``data.filter``)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from .config import Strict


class FilterSettings(Strict):
    """[data.filter]: which of the teacher's samples are kept."""

    oracle: Path = Field(description="an oracle's file")
    family: str = Field("auto", description="what the oracle is; auto asks the file")
    percentile: float = Field(50.0, gt=0, lt=100, description="samples that score below it among all are left out")


class OracleFilter:
    """Scores samples as they are made; says at the end which to keep.

    Call it with each batch of pictures, in order; then :meth:`kept` is for all of them.
    """

    def __init__(self, settings: FilterSettings, device: torch.device | str = "cpu"):
        from ..oracles import load_oracle

        self.settings = settings
        self.oracle = load_oracle(settings.oracle, settings.family, device)

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Scores [B], float32 on the CPU, of images [B, 3, H, W] in [0, 1]. Raises OracleError as the oracle does."""
        return self.oracle(images, prompts)

    def kept(self, scores: Tensor) -> Tensor:
        """Indices, ascending, of the samples at or above the percentile of these scores [N]."""
        return above_percentile(scores, self.settings.percentile)


def above_percentile(scores: Tensor, percentile: float) -> Tensor:
    """Indices [K], ascending, of ``scores`` [N] at or above their own percentile, linearly interpolated."""
    return (scores >= torch.quantile(scores.double(), percentile / 100)).nonzero()[:, 0]
