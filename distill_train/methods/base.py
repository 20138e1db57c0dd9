"""What a method is: for a step, the loss; around it, the data, a look at the result and the export."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ..config import Recipe, RecipeError, Strict
from ..students.ema import Ema

TABLES = ("teacher", "attention", "student", "data", "samples")  # of a recipe, besides [loop] and [settings]


class Stage(NamedTuple):
    """A part of a run with a target and a learning rate curve of its own; its name goes to the log and its export."""

    start: int
    stop: int
    name: str = ""


class Turn(NamedTuple):
    """A part of every step: an optimizer of its own lowers a loss by what trains in one part of the network alone.

    loss: called as :meth:`Method.part_loss` is; it may call the network once with gradients. part: the name of a module
    of the network, "" for all of it; no two turns share parameters. times: updates in each step, one after the other,
    each with a batch of its own: step n asks for the batches ``n times``, ``n times + 1``, ...
    """

    loss: Callable[[nn.Module, int, range], Tensor]
    part: str = ""
    times: int = 1


class Method(ABC):
    """One way of training. Subclasses set ``Settings`` and make ``network`` in ``__init__``.

    name: in recipes; a class without one of its own is no method, but what some share. summary: what it makes, in one
    line. source: who described it first. reads: those of ``TABLES`` that a recipe of it may have.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    Settings: ClassVar[type[Strict]]
    reads: ClassVar[tuple[str, ...]] = ()
    network: nn.Module
    open_ended: ClassVar[bool] = False  # at a constant learning rate, no step depends on how many there are

    def __init__(self, settings: Strict, recipe: Recipe, device: torch.device):
        self.settings, self.recipe, self.device = settings, recipe, device

    def prepare(self, directory: Path) -> None:  # noqa: B027 - most methods need no data of their own
        """Make or load the data; called once, before the first step. directory: the run's, which may not exist yet."""

    def stages(self) -> list[Stage]:
        """The run's parts, in order and without gaps. Raises RecipeError where the steps do not suffice."""
        return [Stage(0, self.recipe.loop.steps)]

    def turns(self) -> list[Turn]:
        """What each step does, one after the other. The first turn's part is what is averaged and exported."""
        return [Turn(self.part_loss)]

    def begin(self, stage: int) -> None:  # noqa: B027 - most methods have one stage
        """A stage after the first begins, the average of the one before being the network's weights by now."""

    @abstractmethod
    def loss(self, network: nn.Module, step: int) -> Tensor:
        """The loss of a step, a scalar; every draw follows from (seed, step)."""

    def part_loss(self, network: nn.Module, step: int, indices: range) -> Tensor:
        """The mean loss of those samples of a step's batch that have these global indices.

        network: ``self.network``, or what the loop wrapped it in.
        """
        return self.loss(network, step)

    def require_parts(self, parts: int) -> None:
        """Raises RecipeError for a method that cannot work on a batch in so many parts."""
        if parts > 1:
            raise RecipeError(f"{self.recipe.method} trains in one process, with loop.accumulate = 1")

    def save_memory(self) -> None:  # noqa: B027 - small networks need not
        """Recompute activations in the backward pass, from now on."""

    def names(self, step: int, indices: range) -> Sequence[str]:
        """Which images or prompts these samples are, for an error message."""
        return ()

    def after_step(self) -> None:  # noqa: B027 - only methods with a target network need it
        """Called after each optimizer step, for target networks."""

    @abstractmethod
    def measure(self, network: nn.Module) -> tuple[Tensor | None, dict[str, Any]]:
        """A grid of images [N, 3, H, W] in [0, 1] (or None) and figures for the log; the network has averaged weights.

        The grid is shown with ``columns`` images in a row, below the ``headings`` of the columns if it has some.
        """

    columns: int = 8
    headings: Sequence[str] = ()

    @abstractmethod
    def export(self, network: nn.Module, path: Path) -> None:
        """Write the weights, averaged by now, for use. One process calls it."""

    def averages(self) -> Sequence[Ema]:
        """Averages that the method keeps for itself."""
        return ()

    @property
    def keeps_averages(self) -> bool:
        """Whether those hold weights of their own."""
        return any(average.weights for average in self.averages())

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold besides the network, its average and the optimizer."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 - the counterpart of an empty state_dict
        """Take back what ``state_dict`` gave."""


class Shardable(ABC):
    """What a method has besides whose network FSDP may share among processes."""

    @abstractmethod
    def require_shards(self) -> None:
        """Raises RecipeError where it cannot share this one."""

    @abstractmethod
    def export_sharded(self, network: nn.Module, path: Path, write: bool) -> None:
        """As :meth:`Method.export`, where every process holds a part of the weights: all call it, one writes."""
