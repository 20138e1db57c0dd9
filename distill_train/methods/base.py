"""What a method is: for a step, the loss; around it, the data, a look at the result and the export."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..config import Recipe, Strict


class Method(ABC):
    """One way of training. Subclasses set ``Settings`` and make ``network`` in ``__init__``."""

    Settings: ClassVar[type[Strict]]
    network: nn.Module

    def __init__(self, settings: Strict, recipe: Recipe, device: torch.device):
        self.settings, self.recipe, self.device = settings, recipe, device

    def prepare(self, directory: Path) -> None:  # noqa: B027 - most methods need no data of their own
        """Make or load the data; called once, before the first step. directory: the run's."""

    @abstractmethod
    def loss(self, network: nn.Module, step: int) -> Tensor:
        """The loss of a step, a scalar; every draw follows from (seed, step)."""

    def after_step(self, network: nn.Module) -> None:  # noqa: B027 - only methods with a target network need it
        """Called after each optimizer step, for target networks."""

    @abstractmethod
    def measure(self, network: nn.Module) -> tuple[Tensor | None, dict[str, Any]]:
        """A grid of images [N, 3, H, W] in [0, 1] (or None) and figures for the log, from the averaged weights."""

    @abstractmethod
    def export(self, network: nn.Module, path: Path) -> None:
        """Write the averaged weights for use."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold besides the network, its average and the optimizer."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 - the counterpart of an empty state_dict
        """Take back what ``state_dict`` gave."""
