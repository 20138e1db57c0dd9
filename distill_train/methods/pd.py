"""Progressive distillation (Salimans and Ho 2022): a student that takes one step where its teacher takes two, again and
again."""

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ..config import RecipeError, Strict
from ..data.batch import Batch
from ..data.randomness import Draws
from ..process import Level, solve
from ..students.ema import standing_in
from .base import Stage
from .cd import truncated_snr
from .distances import l2
from .distillation import Distillation


def closed_form(z_t: Tensor, level_t: Level, z_s: Tensor, level_s: Level) -> Tensor:
    """The x0 with which one DDIM step from z_t lands on z_s, however that was reached (Salimans and Ho 2022, alg. 2).

    (z_s - r z_t) / (alpha_s - r alpha_t) with r = sigma_s / sigma_t.
    """
    ratio = level_s.sigma / level_t.sigma
    return (z_s - ratio * z_t) / (level_s.alpha - ratio * level_t.alpha)


class PD(Distillation):
    """One DDIM step of the student matches ``substeps`` of the teacher; then the student is the teacher of the next.

    The first teacher takes ``teacher_steps`` steps under guidance ``cfg``, and by its attention where the recipe asks
    for it; students have learned both, so that no later teacher is guided. Stages follow until one step is left. Each
    has a share of the run, the students of one and two steps ``last_share`` times that of the others. All stages train
    one network: an earlier student's weights stand in for it when it teaches.
    """

    name = "pd"
    summary = "students of half the steps, and half of those, one after the other"
    source = "Salimans and Ho 2022"

    open_ended = False
    fixed_steps = True

    class Settings(Strict):
        teacher_steps: int = Field(8, gt=1, description="DDIM steps of the first teacher")
        student_steps: int = Field(1, gt=0, description="DDIM steps of the last student")
        substeps: int = Field(2, gt=0, description="steps of a teacher in one of its student's")
        cfg: float = Field(1.0, ge=1, description="guidance of the first teacher, distilled into every student")
        last_share: float = Field(2.0, gt=0, description="length of the stages for two steps and one, to the others'")

        @model_validator(mode="after")
        def _reachable(self):
            if self.substeps > 1 and self.student_steps not in _halvings(self.teacher_steps, self.substeps):
                raise ValueError(
                    f"{self.teacher_steps} steps, divided by {self.substeps} again and again, never are "
                    f"{self.student_steps}"
                )
            return self

    def __init__(self, settings, recipe, device, teacher=None, source=None):
        super().__init__(settings, recipe, device, teacher, source)
        self.stage, self.teacher_weights = 0, None
        self.chain = [settings.teacher_steps]
        if settings.substeps > 1:
            self.chain = _halvings(settings.teacher_steps, settings.substeps)
            self.chain = self.chain[: self.chain.index(settings.student_steps) + 1]
        if settings.teacher_steps >= (timesteps := self.process.timesteps):
            raise RecipeError(f"settings.teacher_steps is {settings.teacher_steps}; expected fewer than {timesteps}")

    @property
    def steps(self) -> int:
        """DDIM steps of the present stage's student."""
        return self.chain[self.stage]

    def stages(self) -> list[Stage]:
        total, shares = self.recipe.loop.steps, [self.settings.last_share if n <= 2 else 1.0 for n in self.chain]
        ends = [round(total * sum(shares[: i + 1]) / sum(shares)) for i in range(len(shares))]
        stages = [Stage(a, b, f"{n}-step") for a, b, n in zip([0, *ends[:-1]], ends, self.chain, strict=True)]
        if any(stage.start == stage.stop for stage in stages):
            raise RecipeError(f"loop.steps is {total}; expected more, for {len(stages)} stages")
        return stages

    def begin(self, stage: int) -> None:
        self.stage = stage
        self.teacher_weights = [p.detach().clone() for p in self.student.parameters]
        self.student.rest_teacher()

    def batch_loss(self, network: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        x0, given, n, k = batch.latents, self.conditioning(batch), self.steps, self.settings.substeps
        place = draws.whole("timestep", 1, n + 1)
        times = [self.process.times((place * k - j) / (n * k), x0.shape[-2:]) for j in range(k + 1)]
        t, s = (self.process.level(time, x0.ndim) for time in (times[0], times[-1]))
        z = t.noisy(x0, draws.normal("noise", x0.shape[1:]))
        with torch.no_grad():
            target = closed_form(z, t, self._taught(z, times, given), s)
        prediction, _ = self.denoise(network, z, times[0], given)
        return self.distance(prediction, target, t)

    def distance(self, prediction: Tensor, target: Tensor, level: Level) -> Tensor:
        """Mean of max(|x - x'|^2, |eps - eps'|^2): the truncated-SNR weight."""
        return l2(prediction, target, truncated_snr(level))

    def _taught(self, z: Tensor, times: list[Tensor], given) -> Tensor:
        if self.teacher_weights is not None:
            with standing_in(self.student.parameters, self.teacher_weights):
                return solve(lambda z, t: self.denoise(self.network, z, t, given), self.process, z, times)
        return solve(lambda z, t: self.teach(z, t, given, self.settings.cfg), self.process, z, times)

    def measure(self, network: nn.Module):
        shown = super().measure(network)
        if self.stage:  # a first grid after --resume needed the first teacher once more
            self.student.rest_teacher()
        return shown

    def sample(self, network, noise, given, steps):
        places = torch.arange(steps, -1, -1, device=noise.device) / steps
        return self.preview.ddim(network, noise, given, self.process.times(places, noise.shape[-2:]))

    def usage(self) -> dict[str, str]:
        return {"steps": str(self.steps), "guidance": "1", "sampler": "euler", "scheduler": "sgm_uniform"}

    def state_dict(self):
        return super().state_dict() | {"stage": self.stage, "teacher_weights": self.teacher_weights}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.stage, self.teacher_weights = state["stage"], state["teacher_weights"]
        if self.teacher_weights is not None:
            self.teacher_weights = [w.to(self.device) for w in self.teacher_weights]
            self.student.rest_teacher()


def _halvings(steps: int, by: int) -> list[int]:
    """8, 2 -> [4, 2, 1]."""
    return [steps // by, *_halvings(steps // by, by)] if steps % by == 0 else []
