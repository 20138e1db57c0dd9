"""What a student is: its network, what trains, how its teacher teaches beside it, and what it exports."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..config import RecipeError, StudentSettings
from ..teachers import Teacher
from .written import Shapes


class Student(ABC):
    """``network`` is what the loop trains; only what trains has ``requires_grad``, in float32.

    It predicts as its teacher does: `Teacher.call` takes either's network, and what the loop wraps around it.
    frozen: the precision of weights that do not train. guidance_width: of an added input for the guidance scale; None
    for none.
    """

    network: nn.Module
    shardable: ClassVar[bool] = False  # whether FSDP can share its weights among processes
    adds_inputs: ClassVar[bool] = False  # whether its network can have one more input, as for the guidance scale

    def __init__(
        self, teacher: Teacher, settings: StudentSettings, frozen: torch.dtype, guidance_width: int | None = None
    ):
        self.teacher, self.settings = teacher, settings

    @classmethod
    @abstractmethod
    def require(cls, teacher: Teacher, unet: nn.Module, settings: StudentSettings) -> None:
        """Raises what making one would for settings that do not fit the teacher's network, before that is read.

        unet: that network on torch's meta device, where it has no weights; it may be changed.
        """

    @staticmethod
    def starts_in(frozen: torch.dtype) -> torch.dtype:
        """The precision that the teacher is to be loaded in."""
        return frozen

    @staticmethod
    def preset(whole: str) -> str:
        """Student sampler's preset for such a student, where ``whole`` is the one for a whole network."""
        return whole

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Those that train."""
        return [p for p in self.network.parameters() if p.requires_grad]

    @abstractmethod
    def teaching(self) -> AbstractContextManager[nn.Module]:
        """Within, the teacher's network as it was loaded."""

    def rest_teacher(self) -> None:  # noqa: B027 - one that is in the student's own network stays
        """Move a network that only teaches out of the device's memory until it teaches again."""

    @abstractmethod
    def exported(self) -> tuple[dict[str, Tensor], Shapes]:
        """The weights to hand on, and the shapes that their readers ask of them.

        Of a network that several processes share in parts, all of them have to ask.
        """

    @abstractmethod
    def metadata(self) -> dict[str, str]:
        """What a file of these weights says about them."""

    def learns_from(self) -> dict[str, str]:
        """What else than teacher and data the run began with: fingerprints by what they are of."""
        return {}

    def save_memory(self) -> None:
        """Recompute activations in the backward pass."""
        recompute_activations(self.network)

    def compile_blocks(self) -> None:
        """Compile what its network and its teacher's repeat. Raises RecipeError where that cannot be."""
        compile_transformer_blocks(self.network, self.teacher.unet)


def compile_transformer_blocks(*networks: nn.Module) -> None:
    """Compile the transformer blocks of diffusers' networks, those of a kind together. Raises RecipeError for none."""
    from diffusers.models.attention import BasicTransformerBlock

    blocks = {part for network in networks for part in network.modules() if isinstance(part, BasicTransformerBlock)}
    if not blocks:
        raise RecipeError("loop.compile is for networks with diffusers' transformer blocks, of which this has none")
    for block in blocks:
        block.compile()


def recompute_activations(network: nn.Module) -> None:
    """Recompute activations in the backward pass of diffusers' networks."""
    from diffusers import ModelMixin

    for module in network.modules():
        if isinstance(module, ModelMixin):
            module.enable_gradient_checkpointing()
