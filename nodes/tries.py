"""Rounds of tries: the whole list is sampled, then decoded, then scored, before the next round begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from ..samplers.best_of import seed_of_try
from .batches import check_range
from .counting import Counting
from .noise import draws_from_seed, noise_of_batch
from .pixels import decode
from .redo import sorted_by_model
from .sampling import Progress, runs_needed, sample_images
from .seeds import BatchNoise
from .student import Ready
from .subset import Subset


class Made(NamedTuple):
    """One try of one image: its latent [C, ...] and its picture [H, W, 3]."""

    sample: torch.Tensor
    picture: torch.Tensor


@dataclass
class Batch:
    """One entry of the list: a batch of images that a student makes together. first: the number of its first image.
    counting: for all its tries."""

    ready: Ready
    model: object
    positive: list
    negative: list
    vae: object
    seed: int
    first: int
    counting: Counting = field(default_factory=Counting)

    @property
    def images(self) -> range:
        """The numbers of its images among all."""
        return range(self.first, self.first + len(self.ready.latent["samples"]))

    def noise(self, row: int, number: int) -> tuple[BatchNoise, int]:
        """Whose noise try ``number`` of image ``row`` has: the student's whole batch's first, then its own alone."""
        indices = self.ready.latent.get("batch_index")
        whole = BatchNoise(self.seed, len(self.images), None if indices is None else tuple(indices))
        if number == 0:
            return whole, row
        return BatchNoise(seed_of_try(self.seed, whole.index(row), number), 1, None), 0

    def runs(self) -> int:
        """How many sampling runs a round of all its images takes at most."""
        count, (model, name, sampler, *_) = len(self.images), self.ready.prepared
        return count if self._drawn() else runs_needed(model, name, sampler, self.ready.latent, count)

    def sample(self, rows: Sequence[int], number: int, progress: Progress) -> tuple[torch.Tensor, list[int]]:
        """Try ``number`` of these images: latents [rows, C, ...] and the network evaluations that each took."""
        apart = number > 0 and self._drawn()
        runs = (
            [self._sample([row], number, progress) for row in rows] if apart else [self._sample(rows, number, progress)]
        )
        return torch.cat([samples for samples, _ in runs]), [count for _, counts in runs for count in counts]

    def _drawn(self) -> bool:
        return draws_from_seed(options for _, options in (*self.positive, *self.negative))

    def _sample(self, rows: Sequence[int], number: int, progress: Progress) -> tuple[torch.Tensor, list[int]]:
        model, name, sampler, sigmas, cfg = self.ready.prepared
        samples = self.ready.latent["samples"]
        subset, size = Subset(rows, len(samples)), samples.shape[2:]
        noises = [self.noise(row, number) for row in rows]
        whole = {noise: noise_of_batch(noise, samples) for noise in {noise for noise, _ in noises}}
        return sample_images(
            model,
            name,
            sampler,
            sigmas.to(model.load_device),
            cfg,
            subset.conditioning(self.positive, size),
            subset.conditioning(self.negative, size),
            subset.latent(self.ready.latent),
            torch.stack([whole[noise][row] for noise, row in noises]),
            [noise.seed for noise, _ in noises],
            [noise.index(row) for noise, row in noises],
            progress,
            rows=subset,
            counting=self.counting,
        )


class Rounds:
    """The student of ``best_of`` over a list of batches; ``evaluations`` counts what each image has cost so far."""

    def __init__(self, batches: Sequence[Batch], n: int):
        self.batches = batches
        self.evaluations = [0 for batch in batches for _ in batch.images]
        model, steps = batches[0].ready.prepared.model, max(len(each.ready.prepared.sigmas) - 1 for each in batches)
        self.progress = Progress(model, steps, n * sum(batch.runs() for batch in batches))

    def __call__(self, places: torch.Tensor, number: int) -> list[Made]:
        """Try ``number`` of the images at these places among all."""
        from comfy.model_management import throw_exception_if_processing_interrupted

        asked, samples, made = list(self.of_batches(places.tolist())), {}, {}
        for batch, rows in sorted_by_model(asked, lambda each: each[0].model):
            throw_exception_if_processing_interrupted()
            samples[batch.first], counts = batch.sample(rows, number, self.progress)
            for row, count in zip(rows, counts, strict=True):
                self.evaluations[batch.first + row] += count
        for batch, rows in sorted_by_model(asked, lambda each: each[0].vae):
            throw_exception_if_processing_interrupted()
            for row, *one in zip(rows, samples[batch.first], decode(batch.vae, samples[batch.first]), strict=True):
                made[batch.first + row] = Made(*one)
                check_range("the student's images", batch.first + row, made[batch.first + row].picture)
        return [made[place] for place in places.tolist()]

    def of_batches(self, places: Sequence[int]) -> Iterator[tuple[Batch, list[int]]]:
        """The batches that these images are of, and the images' rows in them."""
        for batch in self.batches:
            if rows := [place - batch.first for place in places if place in batch.images]:
                yield batch, rows
