"""Latent consistency distillation (Luo et al. 2023): guidance is distilled in, its scale an input or not."""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ...samplers.boundary import TIMESTEP_SCALING
from ..config import RecipeError, Strict
from ..data.batch import Batch
from ..data.randomness import Draws
from .distances import l2, pseudo_huber
from .distillation import Conditioning, Distillation


class LCM(Distillation):
    """f(z_t, t, w) of the student matches f of its average at z_s, one guided DDIM step of the teacher nearer the data.

    t is one of ``intervals`` timesteps T - 1, T - 1 - k, ..., k - 1, and s = max(t - k, 0): the step skips k = T / n
    timesteps. The teacher's scale is w + 1 with w uniform in [w_min, w_max]: LCM's w is cfg - 1. Where both are 0, as
    for a teacher with its guidance distilled in, it is asked once, without guidance. With ``embed_guidance`` the
    student is told w, else it learns the average guidance; a LoRA cannot be told.
    """

    name = "lcm"
    summary = "students of 2 to 8 steps without guidance, or with its scale as an input"
    source = "Luo et al. 2023, LCM and LCM-LoRA"

    class Settings(Strict):
        intervals: int = Field(50, ge=4, description="timesteps of the grid; must divide the teacher's 1000")
        w_min: float = Field(3.0, description="smallest guidance of the teacher; LCM's w is cfg - 1, 0 is none")
        w_max: float = Field(15.0, description="largest guidance of the teacher")
        embed_guidance: bool = Field(False, description="the student is told w; for student.train = full")
        embedding_width: int = Field(256, gt=1, description="of the guidance embedding")
        loss: Literal["huber", "l2"] = Field("huber", description="pseudo-Huber, or mean squares")
        huber_c: float = Field(0.001, gt=0, description="of the pseudo-Huber distance; above it, it is linear")
        target_ema: float = Field(0.95, ge=0, lt=1, description="decay of the target's average; 0: the student itself")
        timestep_scaling: float = Field(
            TIMESTEP_SCALING, gt=0, description="of the boundary condition; samplers assume 10"
        )
        sample_w: float = Field(6.5, description="guidance in previews, where the student is told it")

        @model_validator(mode="after")
        def _ordered(self):
            if self.w_max < self.w_min:
                raise ValueError(f"w_max is {self.w_max:g}; expected at least w_min = {self.w_min:g}")
            return self

    def __init__(self, settings, recipe, device, teacher=None, source=None):
        if settings.embed_guidance:
            self.guidance_width = settings.embedding_width
        super().__init__(settings, recipe, device, teacher, source)
        timesteps = self.process.timesteps
        if timesteps % settings.intervals:
            raise RecipeError(f"settings.intervals is {settings.intervals}; expected a divisor of {timesteps}")

    def make_student(self) -> None:
        super().make_student()
        self.target = self.target_average()

    def consistency(self, network: nn.Module, z: Tensor, t: Tensor, given: Conditioning) -> Tensor:
        """f(z, t), of z's shape."""
        x0, _ = self.denoise(network, z, t, given)
        skip, out = self.process.boundary(t, z.ndim, self.settings.timestep_scaling)
        return skip * z + out * x0

    def batch_loss(self, network: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        settings, x0, given = self.settings, batch.latents, self.conditioning(batch)
        grid = self.process.grid(settings.intervals, size=x0.shape[-2:])
        at = draws.whole("timestep", 0, settings.intervals) + 1
        t, s = grid[at], grid[at - 1].clamp(min=0)
        w = draws.uniform("guidance", settings.w_min, settings.w_max)
        z = self.process.level(t, x0.ndim).noisy(x0, draws.normal("noise", x0.shape[1:]))
        told = {**given, "guidance": w} if settings.embed_guidance else given
        # The target first: its weights stand in for the student's, of which no graph may exist yet.
        with torch.no_grad():
            cfg = w + 1 if settings.w_max or settings.w_min else 1.0
            nearer = self.process.level(s, z.ndim).noisy(*self.teach(z, t, given, cfg))
            with self.target.applied():
                target = self.consistency(self.network, nearer, s, told)
        prediction = self.consistency(network, z, t, told)
        if settings.loss == "l2":
            return l2(prediction, target)
        return pseudo_huber(prediction, target, settings.huber_c)

    def after_step(self) -> None:
        self.target.update()

    def averages(self):
        return [self.target]

    def sample(self, network, noise, given, steps):
        if self.settings.embed_guidance:
            given = {**given, "guidance": torch.full((len(noise),), self.settings.sample_w, device=noise.device)}
        return self.preview.consistency(network, noise, given, steps, self.settings.intervals)

    def levels(self, steps, size):
        return self.preview.grid_levels(steps, size, self.settings.intervals)

    def usage(self) -> dict[str, str]:
        settings = self.settings
        w = {"w_min": f"{settings.w_min:g}", "w_max": f"{settings.w_max:g}"}
        guidance = {"guidance": "embedded", **w} if settings.embed_guidance else {"guidance": "1"}
        grid = {"intervals": str(settings.intervals), "timestep_scaling": f"{settings.timestep_scaling:g}"}
        sampling = {"sampler": "lcm", "scheduler": "sgm_uniform", "preset": self.student.preset("LCM")}
        return {"steps": "4", **guidance, **sampling, **grid}
