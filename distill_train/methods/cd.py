"""Consistency distillation as for the student of the adaptive collaboration paper (Starodubcev et al. 2023)."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ..config import RecipeError, Strict
from ..data.batch import Batch
from ..data.randomness import Draws
from ..process import Level
from .distances import l2, pseudo_huber_norm
from .distillation import Distillation


class CD(Distillation):
    """x0 of the student at z_t matches x0 of its average at z_s, one DDIM step of the teacher nearer the data.

    Student, teacher and target are all evaluated under classifier-free guidance with the same scale: so the student
    keeps its two branches, and its guidance. The timesteps are those of a DDIM sampler with leading spacing, 981, 961,
    ..., 1 for 50, and alpha_bar := 1 at t <= 1, so that f(x_1, 1) = x_1 without c_skip and c_out.
    """

    name = "cd"
    summary = "students that keep their guidance, as the adaptive paper's"
    source = "Starodubcev et al. 2023"

    class Settings(Strict):
        intervals: int = Field(50, ge=4, description="timesteps of the grid; must divide the teacher's 1000")
        cfg: float = Field(8.0, ge=1, description="guidance scale of student, teacher and target; the paper's w")
        random_cfg: bool = Field(False, description="a whole scale from 1 to cfg for each sample instead")
        loss: Literal["l2", "huber"] = Field("l2", description="mean squares, or the pseudo-Huber norm of a sample")
        huber_c: float = Field(0.00054, gt=0, description="of the pseudo-Huber norm, times sqrt(dimensions)")
        weight: Literal["uniform", "snr", "snr+1", "truncated-snr"] = Field(
            "uniform", description="of a timestep in the loss"
        )
        target_ema: float = Field(0.95, ge=0, lt=1, description="decay of the target's average; 0: the student itself")

    def __init__(self, settings, recipe, device, teacher=None, source=None):
        super().__init__(settings, recipe, device, teacher, source)
        try:
            self.process = self.process.with_clean_end()
        except ValueError as error:
            raise RecipeError(f"cd needs a teacher that predicts eps or v, as {error}; use lcm") from error
        self.spacing = self.process.spacings[-1]
        if self.process.timesteps % settings.intervals or settings.intervals == self.process.timesteps:
            raise RecipeError(
                f"settings.intervals is {settings.intervals}; expected a smaller divisor of {self.process.timesteps}"
            )

    def make_student(self) -> None:
        super().make_student()
        self.target = self.target_average()

    def batch_loss(self, network: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        settings, x0, given = self.settings, batch.latents, self.conditioning(batch)
        grid = self.process.grid(settings.intervals, self.spacing, x0.shape[-2:])
        at = draws.whole("timestep", 1, len(grid))
        t, s = grid[at], grid[at - 1]
        cfg = draws.whole("guidance", 1, int(settings.cfg) + 1).float() if settings.random_cfg else settings.cfg
        z = self.process.level(t, x0.ndim).noisy(x0, draws.normal("noise", x0.shape[1:]))
        with torch.no_grad():
            nearer = self.process.level(s, z.ndim).noisy(*self.teach(z, t, given, cfg))
            with self.target.applied():
                target, _ = self.denoise_guided(self.network, nearer, s, given, cfg)
        prediction, _ = self.denoise_guided(network, z, t, given, cfg)
        weight = WEIGHTS[settings.weight](self.process.level(t, z.ndim))
        if settings.loss == "l2":
            return l2(prediction, target, weight)
        return pseudo_huber_norm(prediction, target, settings.huber_c * prediction[0].numel() ** 0.5, weight)

    def after_step(self) -> None:
        self.target.update()

    def averages(self):
        return [self.target]

    def sample(self, network, noise, given, steps):
        settings = self.settings
        return self.preview.consistency(network, noise, given, steps, settings.intervals, self.spacing, settings.cfg)

    def levels(self, steps, size):
        return self.preview.grid_levels(steps, size, self.settings.intervals, self.spacing)

    def usage(self) -> dict[str, str]:
        cfg, grid = f"{self.settings.cfg:g}", str(self.settings.intervals)
        return {"steps": "5", "guidance": cfg, "sampler": "consistency", "scheduler": self.spacing} | {
            "intervals": grid,
            "preset": "consistency",
        }


WEIGHTS = {
    "uniform": lambda level: 1.0,
    "snr": lambda level: level.snr,
    "snr+1": lambda level: level.snr + 1,
    "truncated-snr": lambda level: truncated_snr(level),
}


def truncated_snr(level: Level) -> Tensor:
    """max(SNR, 1), [B, 1, 1, 1]: weighs errors of x0 so that the loss is the larger of those of x0 and eps."""
    return level.snr.clamp(min=1)
