"""SFERD's third stage: a prior of what its encoder gives, since no picture is there when one is to be made."""

from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn

from ...predictor.denoiser import pooled_text
from ...samplers.latent_prior import STEPS, level
from ..config import Strict
from ..data.batch import Batch
from ..data.randomness import Draws
from ..guidance import Conditioning
from .sferd import Sferd


class SferdPrior(Sferd):
    """The noise in ``alpha_n y + sigma_n eps``, y = (E(x0) - mean) / deviation, by its absolute error.

    1000 steps n at a constant beta of 0.008. Mean and deviation of z are those of the first ``statistics`` samples. The
    prior is told the prompt's pooled text, of a share ``dropped`` of the samples nothing; the published one is never
    told (``conditional = false``). z is drawn by DDIM, and nothing is clamped.
    """

    name = "sferd-prior"
    summary = "the complete predictor: with a prior of z, so that it needs no picture"
    source = "Zhou et al. 2024, SFERD"
    trains, asks_teacher = ("prior",), False

    class Settings(Strict):
        conditional: bool = Field(True, description="the prior is told the prompt; false: as published")
        dropped: float = Field(0.1, ge=0, le=1, description="share of the samples whose prompt it is not told")
        statistics: int = Field(4096, gt=1, description="samples of which z's mean and deviation are taken")

    def make_student(self) -> None:
        super().make_student()
        about = self.student.predictor.about
        self.rule, self.intervals = about["rule"], int(about["intervals"])
        if not self.settings.conditional:
            self.network = self.student.give_prior(0)

    def prepare(self, directory: Path) -> None:
        super().prepare(directory)
        self.take_statistics()

    @torch.no_grad()
    def take_statistics(self) -> None:
        """Mean and deviation of z to the predictor; the same in every process and after --resume."""
        size, predictor = self.recipe.loop.batch_size, self.student.predictor
        batches = range(-(-self.settings.statistics // size))
        z = torch.cat([self.meaning(self.source.batch(b, range(b * size, (b + 1) * size))) for b in batches])
        predictor.mean.copy_(z.mean(0))
        predictor.deviation.copy_(z.std(0).clamp(min=1e-4))

    @torch.no_grad()
    def meaning(self, batch: Batch) -> Tensor:
        return self.student.predictor.meaning(batch.latents.to(self.device))

    def batch_loss(self, network: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        predictor = self.student.predictor
        y = (self.meaning(batch) - predictor.mean) / predictor.deviation
        n, eps = draws.whole("step", 0, STEPS), draws.normal("noise", y.shape[1:])
        alpha, sigma = level(n)
        text = pooled_text(self.base, batch.embeddings) if self.settings.conditional else None
        return (network(alpha * y + sigma * eps, n, text, self.keeps_prompt(draws)) - eps).abs().mean()

    def keeps_prompt(self, draws: Draws) -> Tensor:
        """[B]: whether the prior is told a sample's prompt."""
        return draws.uniform("dropped", 0, 1) >= self.settings.dropped

    def meanings(self, noise: Tensor, given: Conditioning) -> Tensor:
        return self.student.predictor.drawn(noise, pooled_text(self.base, dict(given)))
