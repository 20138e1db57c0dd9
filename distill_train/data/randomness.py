"""Random draws that follow from a seed and a place alone, so that a resumed run draws what an unbroken one does."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from ..devices import brought


def generator(*place: object) -> torch.Generator:
    """A CPU generator for a place such as ``(seed, "noise", step)``."""
    digest = hashlib.sha256("/".join(map(str, place)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


class Draws:
    """Draws for the samples of a part of a step's batch, each from its own global index alone.

    So it makes no difference in how many processes or parts a batch is worked on. Draws of different names are
    independent, those of one name are always the same. step: of the batch, for what all its samples share.
    """

    def __init__(self, seed: int, indices: Sequence[int], device: torch.device | str = "cpu", step: int = 0):
        self.seed, self.indices, self.device, self.step = seed, indices, device, step

    def normal(self, name: str, shape: Sequence[int]) -> Tensor:
        """[B, *shape] from the standard normal distribution."""
        return self._stacked(name, lambda g: torch.randn(tuple(shape), generator=g))

    def uniform(self, name: str, low: float, high: float) -> Tensor:
        """[B] from [low, high)."""
        return low + (high - low) * self._stacked(name, lambda g: torch.rand((), generator=g))

    def whole(self, name: str, low: int, high: int) -> Tensor:
        """[B] int64, uniform in low, ..., high - 1."""
        return self._stacked(name, lambda g: torch.randint(low, high, (), generator=g))

    def one(self, name: str, low: int, high: int) -> int:
        """One number for all samples of the step, uniform in low, ..., high - 1."""
        return int(torch.randint(low, high, (), generator=generator(self.seed, name, "step", self.step)))

    def shared(self, name: str, low: int, high: int) -> Tensor:
        """[B] int64, the same for each."""
        return brought(torch.full((len(self.indices),), self.one(name, low, high)), self.device)

    def _stacked(self, name: str, draw) -> Tensor:
        drawn = torch.stack([draw(generator(self.seed, name, i)) for i in self.indices])
        return brought(drawn, self.device)
