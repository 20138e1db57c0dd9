"""Distribution matching distillation (Yin et al. 2024): pictures that are distributed as the teacher's."""

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ..config import Strict
from ..data.batch import Batch
from ..data.randomness import Draws
from ..guidance import Conditioning
from .base import Turn
from .distances import l2
from .distillation import Distillation

FAKE_SCORE = "fake_score"


class DMD(Distillation):
    """The student's pictures x, noised to z_t, move along the difference of two scores, as DMD2 has it.

    The real score is the guided teacher, the fake score a second adapter on the same network that learns what the
    student makes at present. The gradient of the student's loss with respect to x is

        (x0_fake(z_t, t) - x0_real(z_t, t)) / mean |x - x0_real(z_t, t)|

    over the number of values, the mean being over a sample, with t uniform in [t_min, t_max] of the schedule. The fake
    score's own loss is plain denoising, ``|output - y|^2`` on other pictures of the student, t uniform in all of the
    schedule; it is updated ``fake_updates`` times for each update of the student and never guided.

    x is the student's x0 in one of its ``student_steps`` steps from noise, the same one for a whole batch, through the
    last of which gradients flow: what it sees in training is what it sees when it is sampled (backward simulation).
    Of DMD2 (Yin et al. 2024, "Improved distribution matching distillation for fast image synthesis", sections 4.2 and
    4.5, and the authors' public code) the adversarial part is left out, so of the data the texts alone are read. Their
    fake score has weights of its own that train whole; here it is a LoRA as large as the student's.
    """

    name = "dmd"
    summary = "LoRAs for 1 to 4 steps without guidance, whose pictures as a whole are to be the teacher's"
    source = "Yin et al. 2024, DMD2"
    trains = ("lora",)
    fixed_steps = True

    class Settings(Strict):
        student_steps: int = Field(4, gt=0, description="steps that the student is to be sampled in")
        cfg: float = Field(8.0, ge=1, description="guidance of the teacher, as the real score; 1 is none")
        fake_updates: int = Field(5, gt=0, description="updates of the fake score for each of the student")
        t_min: float = Field(0.02, ge=0, lt=1, description="place in the schedule of the least noise of the scores")
        t_max: float = Field(0.98, gt=0, le=1, description="place in the schedule of their most noise")

        @model_validator(mode="after")
        def _ordered(self):
            if self.t_max <= self.t_min:
                raise ValueError(f"t_max is {self.t_max:g}; expected more than t_min = {self.t_min:g}")
            return self

    def make_student(self) -> None:
        super().make_student()
        self.student.add(FAKE_SCORE)

    def turns(self) -> list[Turn]:
        fake = Turn(self.fake_part_loss, self.student.part(FAKE_SCORE), self.settings.fake_updates)
        return [Turn(self.part_loss, self.student.part()), fake]

    def batch_loss(self, network: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        self.student.use()
        given, shape = self.conditioning(batch), batch.latents.shape
        x = self.simulated(network, given, draws, shape)
        t = self.process.times(draws.uniform("score time", self.settings.t_min, self.settings.t_max), shape[-2:])
        with torch.no_grad():
            z = self.process.level(t, x.ndim).noisy(x, draws.normal("score noise", shape[1:]))
            real, _ = self.teach(z, t, given, self.settings.cfg)
            with self.network.only(FAKE_SCORE):
                fake, _ = self.denoise(self.network, z, t, given)
            wanted = x - normalised(fake - real, x - real)
        return 0.5 * l2(x, wanted)

    def fake_part_loss(self, network: nn.Module, step: int, indices: range) -> Tensor:
        return self.fake_loss(network, *self.drawn(step, indices))

    def fake_loss(self, network: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        """The denoising loss of the fake score on what the student makes."""
        self.student.use()
        given, shape = self.conditioning(batch), batch.latents.shape
        with torch.no_grad():
            x = self.simulated(self.network, given, draws, shape)
        self.student.use(FAKE_SCORE)  # until the next turn: the backward pass may run the network again
        t = self.process.times(1 - draws.uniform("fake time", 0, 1), shape[-2:])
        eps = draws.normal("fake noise", shape[1:])
        z = self.process.level(t, x.ndim).noisy(x, eps)
        return l2(self._output(network, z, t, given), self.process.output(x, eps, t))

    def simulated(self, network: nn.Module, given: Conditioning, draws: Draws, shape: torch.Size) -> Tensor:
        """x0, of this shape, after one of the student's steps from noise; with gradients through that one alone."""
        grid, last = self.grid(self.settings.student_steps, shape), draws.one("step", 0, self.settings.student_steps)
        z = draws.normal("noise", shape[1:])
        with torch.no_grad():
            for at, t in enumerate(grid[:last], start=1):
                x, _ = self.denoise(self.network, z, t, given)
                z = self.process.level(grid[at], z.ndim).noisy(x, draws.normal(f"noise {at}", shape[1:]))
        torch.clear_autocast_cache()  # some versions hand on these passes' casts of the weights, without gradients
        return self.denoise(network, z, grid[last], given)[0]

    def grid(self, steps: int, shape: torch.Size) -> Tensor:
        """The times [steps + 1, B] at which a student is sampled in so many steps, falling to the data."""
        places = torch.arange(steps, -1, -1, device=self.device) / steps
        return self.process.times(places, shape[-2:])[:, None].expand(-1, shape[0])

    def after_step(self) -> None:
        self.student.use()

    def names(self, step: int, indices: range) -> tuple[str, ...]:
        return ()  # a step has several batches, whose texts alone are read

    def sample(self, network: nn.Module, noise: Tensor, given: Conditioning, steps: int) -> Tensor:
        return self.preview.multistep(network, noise, given, self.grid(steps, noise.shape)[:, 0])

    def usage(self) -> dict[str, str]:
        steps = str(self.settings.student_steps)
        return {"steps": steps, "guidance": "1", "sampler": "lcm", "scheduler": "sgm_uniform"}


def normalised(difference: Tensor, error: Tensor) -> Tensor:
    """``difference`` [B, ...] over the mean |error| of each sample, which counts as 1e-6 at least."""
    scale = error.abs().flatten(1).mean(1).clamp(min=1e-6)
    return difference / scale.view(-1, *[1] * (error.ndim - 1))
