"""What SFERD's two stages beside a finished student share: that student, its guidance and its previews."""

from abc import abstractmethod
from functools import cached_property

import torch
from torch import Tensor, nn

from ...files import read_header
from ...files.student_file import METHOD
from ...predictor import Predicted
from ...predictor.denoiser import UNTIL
from ..config import RecipeError
from ..guidance import ClassifierFree, Conditioning
from .distillation import Distillation


class Sferd(Distillation):
    """``base`` is the frozen student, sampled by ``rule`` on its grid of ``intervals`` and under its own guidance."""

    rule: str  # "consistency" or "closed-form": how it was distilled
    intervals: int  # of a consistency student's grid, or steps of one in closed form
    spacing: str

    @cached_property
    def told(self) -> dict[str, str]:
        """What the student's file says."""
        return read_header(self.recipe.student.file).metadata

    def make_student(self) -> None:
        super().make_student()
        self.base, told = self.student.frozen, self.told
        self.own_cfg = float(told.get("guidance", 1))
        self.own_guidance = ClassifierFree(self.teacher.unconditional, self.teacher.join)
        self.spacing = "leading" if told.get("scheduler") == "leading" else "trailing"
        if self.spacing == "leading":
            self.process = self.process.with_clean_end()

    @abstractmethod
    def meanings(self, noise: Tensor, given: Conditioning) -> Tensor:
        """z [B, D] of the pictures that previews make of this noise."""

    def sample(self, network: nn.Module, noise: Tensor, given: Conditioning, steps: int) -> Tensor:
        z = self.meanings(noise, given)

        def around(model, sigmas: Tensor) -> Predicted:
            return Predicted(model, self.student.predictor, self.base, z, sigmas, UNTIL)

        if self.rule == "closed-form":
            places = torch.arange(steps, -1, -1, device=noise.device) / steps
            times = self.process.times(places, noise.shape[-2:])
            return self.preview.ddim(self.base, noise, given, times, self.own_cfg, around)
        grid = self.intervals, self.spacing
        return self.preview.consistency(self.base, noise, given, steps, *grid, self.own_cfg, around)

    def usage(self) -> dict[str, str]:
        return {"rule": self.rule, "intervals": str(self.intervals), "until": f"{UNTIL:g}"}

    def metadata(self) -> dict[str, str]:
        said = super().metadata()
        return said | {"method": said.pop(METHOD)}  # whose entry is that of students, which this is not

    def require_shards(self) -> None:
        raise RecipeError(f"{self.recipe.method} does not train with FSDP: what trains is small; launch without it")

    def _learns_from(self) -> dict[str, str | None]:
        return super()._learns_from() | {"student": self.student.sha256}
