"""A student of which all weights train: a copy of the teacher's network."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .base import Student
from .sharding import whole
from .written import Shapes


class Full(Student):
    """The copy is float32 and begins in the file's own precision; the teacher is frozen in less then."""

    shardable = adds_inputs = True

    def __init__(self, teacher, settings, frozen, guidance_width=None):
        super().__init__(teacher, settings, frozen)
        self.network = self._copy(guidance_width).requires_grad_(True).train()
        for name in teacher.shared:
            self.network.get_submodule(name).requires_grad_(False)
        if frozen != torch.float32:
            teacher.unet.to(frozen)

    @classmethod
    def require(cls, teacher, unet, settings):
        """Of any network all weights can train."""

    @staticmethod
    def starts_in(frozen: torch.dtype) -> torch.dtype:
        return torch.float32

    @contextmanager
    def teaching(self) -> Iterator[nn.Module]:
        yield self.teacher.unet.to(self.teacher.device)

    def rest_teacher(self) -> None:
        self.teacher.unet.to("cpu")

    def exported(self) -> tuple[dict[str, Tensor], Shapes]:
        # One after the other into main memory, as no device may have room for all.
        weights = {key: whole(value).cpu() for key, value in self.network.state_dict().items()}
        return weights, {key: tuple(value.shape) for key, value in weights.items()}

    def metadata(self) -> dict[str, str]:
        return {"trained": "full", "keys": "diffusers", **self.teacher.metadata(self.network)}

    def _copy(self, guidance_width: int | None) -> nn.Module:
        if guidance_width is not None:
            return self.teacher.with_guidance_input(guidance_width).float()
        return copy.deepcopy(self.teacher.unet).float()
