"""What a data source gives to a method."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from ..devices import brought
from ..teachers.ragged import stays


@dataclass(frozen=True)
class Batch:
    """Samples of one size, ``height`` and ``width`` in pixels; ``latents`` [b, C, h, w] as the UNet sees them.

    ``embeddings`` are as :meth:`Teacher.embed` gives them; ``names`` say of each sample which image or prompt it is.
    ``extras`` are what else belongs to a sample, [b, ...] each: "condition", a picture [b, C, height, width] in [0, 1],
    or "mask" [b, 1, height, width], 1 where something is to change; where one hides a condition, that is -1.
    """

    latents: Tensor
    embeddings: dict[str, Tensor]
    names: Sequence[str] = field(default_factory=tuple)
    height: int = 0
    width: int = 0
    extras: dict[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> "Batch":
        """The same on a device, as :func:`moved` has it, latents in float32."""
        latents = brought(self.latents, device).float()
        return replace(
            self, latents=latents, embeddings=moved(self.embeddings, device), extras=moved(self.extras, device)
        )


def moved(tensors: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Embeddings, or what else belongs to samples, on a device, but for what :func:`stays` in main memory."""
    return {key: value if stays(key) else brought(value, device) for key, value in tensors.items()}


class Source(Protocol):
    """Data for training: any sample of any step, in any order."""

    def batch(self, step: int, indices: range) -> Batch:
        """The samples with these global indices (step * batch_size + place in the batch); one size for a whole step."""
