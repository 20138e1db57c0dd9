"""SFERD's second stage: a gradient predictor beside a student that is distilled already."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ...files.student_file import METHOD
from ...predictor.denoiser import reading_features
from ..config import RecipeError, Strict
from ..data.batch import Batch
from ..data.randomness import Draws
from ..guidance import Conditioning
from ..process import solve
from .distances import l2
from .pd import closed_form
from .sferd import Sferd

RULES = dict.fromkeys(("lcm", "cd", "sferd-cd"), "consistency")
RULES |= dict.fromkeys(("pd", "cfd", "sferd-pd"), "closed-form")


class SferdPredictor(Sferd):
    """x0 of the frozen student S at z_t, moved by ``c_t G(z_t, t, E(x0))``, matches R of where the guided teacher gets.

    c_t = sigma_t^2 / alpha_t at the student's own t; where alpha may come below 0.05 the branch says the product. The
    error has the weight 1 + SNR(t), once and not clipped, since no t of a student's grid is the data itself. R, the
    target, follows the way in which S was distilled:

    - consistency (lcm, cd, the demo family's): the teacher takes one step of the grid to z_s, and R is x0 of S at z_s
      moved with c_s, by an average of E and G; where z_s is the data, R is z_s. LCM's c_skip and c_out, on its grid
      those of plain x0 to within 1e-5 at its scaling of 10, are left out.
    - closed form (pd, cfd): the teacher takes ``substeps`` steps in one of S's, and R is the x0 by which one DDIM step
      gets there, too.

    S keeps its own guidance, under which both of its branches are moved. Previews take z of the teacher's picture.
    """

    name = "sferd-predictor"
    summary = "what a finished student still lacks, as a file beside it: an encoder and a branch"
    source = "Zhou et al. 2024, SFERD"
    trains = ("predictor",)

    class Settings(Strict):
        cfg: float = Field(ge=1, description="guidance of the teacher, as the student was distilled with; 1 is none")
        rule: Literal["auto", "consistency", "closed-form"] = Field(
            "auto", description="how the student was distilled; auto asks its file"
        )
        intervals: int | None = Field(
            None, gt=0, description="of the student's grid, or steps of a closed-form student; its file's without it"
        )
        substeps: int = Field(2, gt=0, description="steps of the teacher in one of a closed-form student's")
        target_ema: float = Field(0.95, ge=0, lt=1, description="decay of the target's average; 0: the present weights")

    def make_student(self) -> None:
        super().make_student()
        self.rule = self._rule()
        self.intervals = self.settings.intervals or self._intervals()
        self.target = self.target_average()
        self.taught: Tensor | None = None

    def _require_fitting(self, outline: nn.Module) -> None:
        super()._require_fitting(outline)
        self.rule = self._rule()
        self.intervals = self.settings.intervals or self._intervals()

    def _rule(self) -> str:
        if self.settings.rule != "auto":
            return self.settings.rule
        method = self.told.get(METHOD, "cd" if self.teacher.kind == "demo" else None)
        if method not in RULES:
            raise RecipeError(
                f"student.file {self.recipe.student.file} does not say how it was distilled; set settings.rule to "
                "consistency or closed-form"
            )
        return RULES[method]

    def _intervals(self) -> int:
        key = "intervals" if self.rule == "consistency" else "steps"
        if key not in self.told:
            raise RecipeError(f"student.file {self.recipe.student.file} has no {key}; set settings.intervals")
        return int(self.told[key])

    def batch_loss(self, network: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        x0, given = batch.latents, self.conditioning(batch)
        times = self._times(draws, x0.shape[-2:])
        t, s = times[0], times[-1]
        level = self.process.level(t, x0.ndim)
        z = level.noisy(x0, draws.normal("noise", x0.shape[1:]))
        with torch.no_grad():
            nearer = solve(lambda z, t: self.teach(z, t, given, self.settings.cfg), self.process, z, times)
            if self.rule == "closed-form":
                target = closed_form(z, level, nearer, self.process.level(s, z.ndim))
            else:
                with self.target.applied():
                    target = self.moved(self.network, nearer, s, given, x0)
        return l2(self.moved(network, z, t, given, x0), target, 1 + level.snr)

    def _times(self, draws: Draws, size) -> list[Tensor]:
        """[B] each: the student's t, where its teacher goes from there, and where that gets."""
        n = self.intervals
        if self.rule == "closed-form":
            place, k = draws.whole("timestep", 1, n + 1), self.settings.substeps
            return [self.process.times((place * k - j) / (n * k), size) for j in range(k + 1)]
        grid = self.process.grid(n, self.spacing, size)
        at = draws.whole("timestep", 1, len(grid))
        return [grid[at], grid[at - 1]]

    def moved(self, network: nn.Module, z: Tensor, t: Tensor, given: Conditioning, picture: Tensor) -> Tensor:
        """x0 of the student, moved by the predictor for z of ``picture``; z_t itself where it is the data."""

        def run(z: Tensor, t: Tensor, given: Conditioning) -> Tensor:
            with torch.no_grad(), reading_features(self.base) as seen:
                x0, _ = self.denoise(self.base, z, t, given)
            said = network(picture, seen.features, self.process.network_time(t)).float()
            return x0 + self.student.predictor.coefficient(*self.process.level(t, z.ndim)) * said

        x0 = self.own_guidance(run, z, t, given, self.own_cfg)
        return torch.where(self.process.level(t, z.ndim).sigma == 0, z, x0)

    def after_step(self) -> None:
        self.target.update()

    def averages(self):
        return [self.target]

    def meanings(self, noise: Tensor, given: Conditioning) -> Tensor:
        if self.taught is None:
            self.taught = self.preview.teach(noise, dict(given))
        return self.student.predictor.meaning(self.taught)
