"""Guidance of a network's output: by a branch without a prompt, or by an input of its own."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

Conditioning = Mapping[str, Tensor]
Run = Callable[[Tensor, Tensor, Conditioning], Tensor]  # (z, t [B], given) -> the network's output


class Guidance(ABC):
    @abstractmethod
    def __call__(self, run: Run, z: Tensor, t: Tensor, given: Conditioning, cfg: Tensor | float) -> Tensor:
        """The output at z, t under a guidance scale, one for all or [B]; 1 is no guidance."""


class ClassifierFree(Guidance):
    """Ho and Salimans 2022: ``uncond + cfg (cond - uncond)``, both branches in one pass.

    unconditional: the embeddings of the branch without a prompt, for so many rows. join: `Teacher.join`, as the
    branches' texts may have several lengths.
    """

    def __init__(
        self,
        unconditional: Callable[[int], Conditioning],
        join: Callable[[Sequence[Conditioning]], Conditioning],
    ):
        self.unconditional, self.join = unconditional, join

    def __call__(self, run: Run, z: Tensor, t: Tensor, given: Conditioning, cfg: Tensor | float) -> Tensor:
        return self.branches(run, z, t, given, cfg)[0]

    def branches(
        self, run: Run, z: Tensor, t: Tensor, given: Conditioning, cfg: Tensor | float
    ) -> tuple[Tensor, Tensor, Conditioning]:
        """(the guided output, that of the unconditional branch, what that was given); without guidance the only one's.

        In the one pass of two branches the unconditional one is the second half.
        """
        if isinstance(cfg, (int, float)) and cfg == 1:
            output = run(z, t, given)
            return output, output, given
        free = {**given, **self.unconditional(len(z))}
        free = {key: free[key].to(given[key]) for key in given}
        both = self.join([given, free])
        cond, uncond = run(torch.cat([z, z]), torch.cat([t, t]), both).chunk(2)
        if isinstance(cfg, Tensor):
            cfg = cfg.reshape(-1, *[1] * (z.ndim - 1))
        return uncond + cfg * (cond - uncond), uncond, free


class Embedded(Guidance):
    """The network is told the scale, as LCM's w = cfg - 1; one pass."""

    def __call__(self, run: Run, z: Tensor, t: Tensor, given: Conditioning, cfg: Tensor | float) -> Tensor:
        w = torch.as_tensor(cfg, dtype=torch.float32, device=z.device).expand(len(z)) - 1
        return run(z, t, {**given, "guidance": w})
