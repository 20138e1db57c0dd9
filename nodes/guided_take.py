"""A take by the inputs of SamplerCustomAdvanced: GUIDER, SAMPLER, SIGMAS, and NOISE if one is connected."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..samplers.rollback import last_part, part_below
from .guiders import checked
from .noise import name_of
from .take import Shot, Take

NOISE, SCHEDULE, AS_GIVEN = ROLLBACK_MODES = ("noise", "schedule", "as given")


@dataclass(kw_only=True)
class GuidedTake(Take):
    INPUTS = ("guider",)

    guider: object
    sampler: object
    sigmas: torch.Tensor
    noise: object

    def __post_init__(self):
        super().__post_init__()
        if self.shots:
            checked(self.guider)
            self._check_sigmas()

    @property
    def model(self):
        return self.guider.model_patcher

    @property
    def sampler_name(self) -> str:
        return name_of(self.sampler)

    def input_of(self, condition: str) -> str:
        return "guider"

    def sigmas_of(self, shot: Shot) -> torch.Tensor:
        from comfy.model_sampling import CONST

        given = self.sigmas
        if self.strategy == "regenerate" or self.rollback_mode == AS_GIVEN or shot.rollback == 1:
            return given
        if self.rollback_mode == SCHEDULE:
            return last_part(given, shot.rollback)
        flow = isinstance(self.model.get_model_object("model_sampling"), CONST)
        cut = part_below(given, shot.rollback, flow)
        if len(cut) < 2:
            raise ValueError(
                f"sigmas end at {given[-1]:g}, but rollback {shot.rollback:g} starts at {cut[0]:g}: there is no step "
                "between them; connect the whole schedule, down to 0, or raise rollback."
            )
        return cut

    def agrees_in(self) -> tuple:
        return (id(self.guider), id(self.sampler), id(self.sigmas))

    def _check_sigmas(self):
        given = self.sigmas
        if given.ndim != 1 or len(given) < 2:
            raise ValueError(f"sigmas have shape {list(given.shape)}; expected two or more noise levels in a row")
        if self.strategy == "refine" and self.rollback_mode != AS_GIVEN and not (given.diff() < 0).all():
            raise ValueError(
                f"sigmas {[round(level, 4) for level in given.tolist()]} do not fall all the way, so rollback cannot "
                f"cut them; connect a falling schedule, or set rollback_mode to {AS_GIVEN!r}."
            )
