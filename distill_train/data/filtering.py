"""Keep only what an oracle likes: a student that is taught by the better of the teacher's samples (``data.filter``)."""

from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from ..config import Strict


class FilterSettings(Strict):
    """[data.filter]: which of the teacher's samples are kept."""

    oracle: Path = Field(description="an oracle's file")
    family: str = Field("auto", description="what the oracle is; auto asks the file")
    literal_prompts: bool = Field(False, description="the oracle reads the syntax of image generators as text, too")
    percentile: float = Field(50.0, gt=0, lt=100, description="samples that score below it among all are left out")


def above_percentile(scores: Tensor, percentile: float) -> Tensor:
    """Indices [K], ascending, of ``scores`` [N] at or above their own percentile, linearly interpolated."""
    return (scores >= torch.quantile(scores.double(), percentile / 100)).nonzero()[:, 0]
