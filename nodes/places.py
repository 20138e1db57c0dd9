"""Where the images of a list stand in the batches in which the student made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .batches import split
from .seeds import BatchNoise


class Place(NamedTuple):
    """Where an image stands in the student's batch of ``batch`` images: image ``row`` of ``latent``, or, where there
    is none, of the whole list of images."""

    latent: Mapping | None
    row: int
    batch: int

    def noise(self, seed: int) -> BatchNoise:
        """The batch's noise by this seed and the latent's batch_index."""
        indices = (self.latent or {}).get("batch_index")
        return BatchNoise(seed, self.batch, None if indices is None else tuple(indices))


def places_of(latents: Sequence[Mapping | None], counts: Sequence[int]) -> list[tuple[Place, ...]]:
    """For each batch of a list of images, the Places of its images; counts: how many each batch has.

    latents: one for each image, in batches of any size; or one batch for every entry of the list; or [None].
    Raises ValueError for other counts.
    """
    if latents[0] is None:
        found = [Place(None, row, sum(counts)) for row in range(sum(counts))]
    else:
        found = [Place(latent, row, len(latent["samples"])) for latent in latents for row in range(_checked(latent))]
    if len(latents) == 1 and set(counts) == {len(found)}:
        found *= len(counts)
    if len(found) != sum(counts):
        raise ValueError(
            f"{len(found)} latents, but {sum(counts)} images: connect the latent that these images came from."
        )
    return list(split(found, counts))


def _checked(latent: Mapping) -> int:
    count, indices = len(latent["samples"]), latent.get("batch_index")
    if indices is not None and len(indices) != count:
        raise ValueError(f"{len(indices)} entries in the latent's batch_index, but {count} latents; give one for each.")
    return count
