"""Encode all, sample all, decode all: a model works through the whole list before the next one is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import torch

from .counting import Counting
from .guiders import of_images
from .masks import blended
from .noise import noise_of_batch
from .pixels import decode, fitted_to
from .redone_latent import latent_of
from .sampling import Progress, guided_runs_needed, sample_guided
from .take import Shot, Take, subset_of, subsets

T = TypeVar("T")


class Redone(NamedTuple):
    """A whole batch after the teacher: its images, network evaluations per image (0 where it was kept), and the LATENT
    of those that were redone, None if there is none."""

    images: torch.Tensor
    evaluations: list[int]
    latent: dict | None


def redo(takes: Sequence[Take], at_once: int = 0) -> list[Redone]:
    """Each take after the teacher; kept images are those that came in, bit for bit.

    at_once: the most images that are sampled together; with 0 as many as the largest batch that came in has, since
    people split batches to save memory. What becomes of an image does not depend on it.
    """
    from comfy.model_management import throw_exception_if_processing_interrupted

    rejected = [take for take in takes if take.shots]
    for take in sorted_by_model(rejected, lambda take: take.vae):
        throw_exception_if_processing_interrupted()
        take.encode()
    most = at_once or max(len(take.images) for take in takes)
    runs = [Run(shots) for shots in joined([shot for take in rejected for shot in take.shots], most)]
    if runs:
        progress = Progress(runs[0].take.model, sum(run.parts * (len(run.sigmas) - 1) for run in runs))
    counting = Counting()
    for run in runs:
        throw_exception_if_processing_interrupted()
        run.sample(progress, counting)
    images = {}
    for take in sorted_by_model(rejected, lambda take: take.vae):
        throw_exception_if_processing_interrupted()
        images[id(take)] = _decoded(take)
    return [Redone(images.get(id(take), take.images), _evaluations(take), latent_of(take)) for take in takes]


def joined(shots: Iterable[Shot], most: int) -> list[list[Shot]]:
    """The shots in batches that the teacher can sample as one, ``most`` images or fewer in each; by model."""
    groups: dict[tuple, list[Shot]] = {}
    for shot in shots:
        groups.setdefault(shot.agrees_in(), []).append(shot)
    ordered = sorted_by_model(groups.values(), lambda group: group[0].take.guider.model_patcher)
    return [group[start : start + most] for group in ordered for start in range(0, len(group), most)]


def sorted_by_model(things: Iterable[T], model_of: Callable[[T], object]) -> list[T]:
    """In order of their models' first appearance, so that no model is loaded twice."""
    order: dict[int, int] = {}
    return sorted(things, key=lambda thing: order.setdefault(id(model_of(thing)), len(order)))


class Run:
    """Shots that agree, to be sampled together.

    sigmas: their noise levels. parts: in how many sampling runs the host's sampler and guider take them.
    """

    def __init__(self, shots: Sequence[Shot]):
        self.shots, self.take = shots, shots[0].take
        self.sigmas = self.take.sigmas_of(shots[0])
        self.latent = {"samples": torch.cat([shot.samples for shot in shots])}
        if shots[0].mask is not None:
            self.latent["noise_mask"] = torch.cat([shot.mask for shot in shots])
        take = self.take
        self.parts = guided_runs_needed(take.guider, take.sampler_name, take.sampler, self.latent, len(shots))

    def sample(self, progress: Progress, counting: Counting):
        """Give each shot its redone latent and its evaluations."""
        take, size = self.take, self.latent["samples"].shape[2:]
        rows = subset_of(self.shots, take.INPUTS[0])
        samples, evaluations = sample_guided(
            of_images(take.guider, subsets(self.shots, take.guider.original_conds), size, take.upscale_by),
            take.sampler_name,
            take.sampler,
            self.sigmas,
            self.latent,
            self._noise(),
            [shot.noise.seed for shot in self.shots],
            [shot.index for shot in self.shots],
            progress,
            rows=rows,
            counting=counting,
        )
        in_parts = self.parts > 1 or not rows.whole
        for shot, sample, count in zip(self.shots, samples.split(1), evaluations, strict=True):
            shot.samples, shot.evaluations, shot.in_parts = sample, count, in_parts
            shot.said = take.said(shot, float(self.sigmas[0]))

    def _noise(self) -> torch.Tensor:
        """The shots' starting noise, each out of its own whole batch, by its seed or the NOISE of its take."""
        made, own = {}, []
        for shot in self.shots:
            given = shot.take.noise
            key = (id(given), shot.noise)
            if key not in made:
                made[key] = noise_of_batch(shot.noise, shot.samples, given)
            own.append(made[key][shot.row])
        return torch.stack(own)


def _decoded(take: Take) -> torch.Tensor:
    images = take.images.clone()
    decoded = decode(take.vae, torch.cat([shot.samples for shot in take.shots]))
    redone = fitted_to(images[take.chosen], decoded, take.size)
    for shot, image in zip(take.shots, redone, strict=True):
        images[shot.image] = blended(images[shot.image], image, take.masks[shot.image])
    return images


def _evaluations(take: Take) -> list[int]:
    counts = {shot.image: shot.evaluations for shot in take.shots}
    return [counts.get(image, 0) for image in range(len(take.images))]
