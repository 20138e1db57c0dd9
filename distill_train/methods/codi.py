"""CoDi (Mei et al. 2024): a text-to-image model learns a condition and few steps at once, from pairs alone."""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ...samplers.boundary import TIMESTEP_SCALING
from ..config import RecipeError, Strict
from ..data.batch import Batch
from ..data.randomness import Draws
from ..guidance import Conditioning
from .distances import l2
from .distillation import Distillation

NEXT_TO_DATA = 1e-4  # place of the last s in the schedule: of clean latents nobody can say what their noise was


class CoDi(Distillation):
    """eps at z_t matches eps of the student's average at z_s, one step of the student's own ODE nearer the data; x0
    matches the latents themselves.

    With (x0', eps') = student(z_t, t) by its present weights, z_s = alpha_s x0' + sigma_s eps', the loss is
    ``|eps' - eps(z_s, s)|^2 + |x0' - x0|^2``. t is one of the ``intervals`` times of a grid, the same for a whole
    batch, and s the one before, at least a grid's step nearer the data. The student is sampled by DDIM on that grid.

    The noise is compared as it is; c_skip and c_out, which would pull it to zero, are of ``consistency = "x0"`` alone.
    From a cfg_max above 1, both passes are under guidance, by one whole scale for a batch. It contrasts prompts: the
    condition is in both branches and never dropped.
    """

    name = "codi"
    summary = "students of 1 to 4 steps under a condition picture: a ControlNet and the network under it"
    source = "Mei et al. 2024"
    trains, bases = ("control",), ("lora", "full")

    class Settings(Strict):
        intervals: int = Field(20, ge=4, description="timesteps of the grid; must divide the teacher's 1000")
        consistency: Literal["noise", "x0"] = Field("noise", description="what agrees at t and s")
        ode: Literal["own", "teacher"] = Field(
            "own", description="whose step leads to z_s; teacher is an ablation, and may have [attention]"
        )
        consistency_weight: float = Field(1.0, ge=0, description="of the agreement of t and s; 0 leaves it out")
        reconstruction_weight: float = Field(1.0, ge=0, description="of the distance to the latents")
        cfg_min: int = Field(1, ge=1, description="smallest guidance scale of a batch; it is a whole number")
        cfg_max: int = Field(1, ge=1, description="largest guidance scale of a batch; 1 is no guidance")
        sample_cfg: float = Field(1.0, ge=1, description="guidance of previews, which the export recommends")
        target_ema: float = Field(0.999, ge=0, lt=1, description="decay of the target's average; 0: the student itself")
        timestep_scaling: float = Field(TIMESTEP_SCALING, gt=0, description="of the boundary of consistency = x0")

        @model_validator(mode="after")
        def _ordered(self):
            if not self.cfg_min <= self.sample_cfg <= self.cfg_max:
                raise ValueError(
                    f"sample_cfg is {self.sample_cfg:g}; expected cfg_min = {self.cfg_min} to cfg_max = {self.cfg_max}"
                )
            if not self.consistency_weight + self.reconstruction_weight:
                raise ValueError("consistency_weight and reconstruction_weight are both 0; nothing would be learned")
            return self

    def __init__(self, settings, recipe, device, teacher=None, source=None):
        super().__init__(settings, recipe, device, teacher, source)
        timesteps = self.process.timesteps
        if timesteps % settings.intervals or settings.intervals == timesteps:
            raise RecipeError(f"settings.intervals is {settings.intervals}; expected a smaller divisor of {timesteps}")

    def _require_student(self) -> None:
        super()._require_student()
        if self.recipe.attention and not (self.settings.ode == "teacher" and self.settings.consistency_weight):
            raise RecipeError(
                f"{self.recipe.method} asks no guided teacher while it learns, but with settings.ode = teacher and a "
                "consistency_weight; set those, or leave [attention] out"
            )

    def make_student(self) -> None:
        super().make_student()
        self.target = self.target_average()

    def batch_loss(self, network: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        settings, x0, given = self.settings, batch.latents, self.conditioning(batch)
        grid = self.process.grid(settings.intervals, size=x0.shape[-2:])
        at = draws.shared("timestep", 1, len(grid))
        nearest = self.process.times(torch.tensor(NEXT_TO_DATA, device=grid.device), x0.shape[-2:])
        t, s = grid[at], grid[at - 1].clamp(min=nearest)
        cfg = draws.shared("guidance", settings.cfg_min, settings.cfg_max + 1).float() if settings.cfg_max > 1 else 1.0
        z = self.process.level(t, x0.ndim).noisy(x0, draws.normal("noise", x0.shape[1:]))
        x, eps = self.denoise_guided(network, z, t, given, cfg)
        loss = settings.reconstruction_weight * l2(x, x0)
        if not settings.consistency_weight:
            return loss
        with torch.no_grad():
            step = (x, eps) if settings.ode == "own" else self.teach(z, t, given, cfg)
            nearer = self.process.level(s, z.ndim).noisy(*step)
            # The student's graph exists by now, and is walked back through only when its own weights are back.
            with self.target.applied():
                target = self.denoise_guided(self.network, nearer, s, given, cfg)
        compared = self._compared(z, t, x, eps), self._compared(nearer, s, *target)
        return loss + settings.consistency_weight * l2(*compared)

    def _compared(self, z: Tensor, t: Tensor, x0: Tensor, eps: Tensor) -> Tensor:
        if self.settings.consistency == "noise":
            return eps
        skip, out = self.process.boundary(t, z.ndim, self.settings.timestep_scaling)
        return skip * z + out * x0

    def after_step(self) -> None:
        self.target.update()

    def averages(self):
        return [self.target]

    def sample(self, network: nn.Module, noise: Tensor, given: Conditioning, steps: int) -> Tensor:
        grid = self.process.grid(self.settings.intervals, size=noise.shape[-2:])
        intervals = self.settings.intervals
        # As the preset "codi" goes through them, where steps do not divide the intervals too.
        places = intervals - torch.arange(steps + 1, device=grid.device) * intervals // steps
        return self.preview.ddim(network, noise, given, grid[places], self.settings.sample_cfg)

    def usage(self) -> dict[str, str]:
        # The scheduler is the host's nearest to the grid, and the same at one step.
        grid = {"scheduler": "sgm_uniform", "intervals": str(self.settings.intervals), "preset": "codi"}
        return {"steps": "4", "guidance": f"{self.settings.sample_cfg:g}", "sampler": "euler", **grid}


class PECoDi(CoDi):
    """CoDi of the ControlNet alone: the network under it stays as it is, and is in memory once."""

    name = "pe-codi"
    summary = "students of 1 to 4 steps under a condition picture: a ControlNet alone"
    bases = ("frozen",)
