"""Train the demo teacher: v-prediction with dropped texts, so that it can be guided."""

import torch
from pydantic import Field
from torch import Tensor

from ...demo_family import family
from ...samplers.denoisers import scaled_linear
from ..process import Discrete, Level
from .denoising import Denoising


class Diffusion(Denoising):
    """``v = alpha eps - sigma x0``; loss = mean weight(t) |v_hat - v|^2, t uniform.

    The weight is min(SNR, gamma) / (SNR + 1), the min-SNR weighting for v-prediction (Hang et al. 2023).
    """

    name = "diffusion"
    summary = "the demo family's teacher"
    source = "Salimans and Ho 2022, v-prediction"

    class Settings(Denoising.Settings):
        min_snr_gamma: float = Field(5.0, description="ceiling of the signal-to-noise ratio in the weight; 0: weight 1")

    def __init__(self, settings, recipe, device):
        super().__init__(settings, recipe, device)
        self.process = Discrete(scaled_linear().float().to(device), "v_prediction")

    def draw_times(self, count: int, g: torch.Generator) -> Tensor:
        return torch.randint(family.TIMESTEPS, (count,), generator=g)

    def weight(self, level: Level) -> Tensor | float:
        gamma = self.settings.min_snr_gamma
        return level.snr.clamp(max=gamma) * level.sigma.square() if gamma else 1.0
