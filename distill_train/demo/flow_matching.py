"""Train a demo teacher in flow time, for trials of what distils flows; the pack has none."""

import torch
from pydantic import Field
from torch import Tensor

from ..process import Flow
from .denoising import Denoising


class FlowMatching(Denoising):
    """``v = eps - x0`` at ``z = (1 - s) x0 + s eps`` (Lipman et al. 2023; Liu et al. 2023), the network told 1000 s.

    The loss is mean |v_hat - v|^2, s uniform in the places of the schedule, whose shift is in the file's metadata. A
    shift of 2 spreads signal-to-noise ratios about as the family's own timesteps do.
    """

    name = "flow-matching"
    summary = "a teacher of the demo family in flow time"
    source = "Lipman et al. 2023"

    class Settings(Denoising.Settings):
        shift: float = Field(2.0, gt=0, description="of the schedule, s = shift u / (1 + (shift - 1) u) at place u")

    def __init__(self, settings, recipe, device):
        super().__init__(settings, recipe, device)
        self.process = Flow(settings.shift, device)

    def draw_times(self, count: int, g: torch.Generator) -> Tensor:
        return self.process.times(torch.rand(count, generator=g))

    def said(self) -> dict[str, str]:
        return {"prediction": self.process.prediction, "shift": f"{self.settings.shift:g}"}
