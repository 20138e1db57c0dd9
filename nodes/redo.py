"""Encode all, sample all, decode all: a model works through the whole list before the next one is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import torch

from .noise import starting_noise
from .pixels import decode, fitted_to
from .sampling import Progress, runs_needed, sample_images
from .subset import Subset
from .take import CONDITIONING, Shot, Take
from .teacher_settings import sampled

T = TypeVar("T")


class Redone(NamedTuple):
    """A whole batch after the teacher: its images, and network evaluations per image (0 where it was kept)."""

    images: torch.Tensor
    evaluations: list[int]


def redo(takes: Sequence[Take]) -> list[Redone]:
    """Each take after the teacher; kept images are those that came in, bit for bit."""
    from comfy.model_management import throw_exception_if_processing_interrupted

    rejected = [take for take in takes if take.shots]
    for take in sorted_by_model(rejected, lambda take: take.vae):
        throw_exception_if_processing_interrupted()
        take.encode()
    runs = joined([shot for take in rejected for shot in take.shots], max(len(take.images) for take in takes))
    if runs:
        first = runs[0][0].take
        progress = Progress(first.model, first.steps, sum(_sampling_runs(run) for run in runs))
    for run in runs:
        throw_exception_if_processing_interrupted()
        _sample(run, progress)
    images = {}
    for take in sorted_by_model(rejected, lambda take: take.vae):
        throw_exception_if_processing_interrupted()
        images[id(take)] = _decoded(take)
    return [Redone(images.get(id(take), take.images), _evaluations(take)) for take in takes]


def joined(shots: Iterable[Shot], most: int) -> list[list[Shot]]:
    """The shots in batches that the teacher can sample as one, ``most`` images or fewer in each; by model.

    People split batches to save memory, so ``most`` is the size of the largest batch that came in.
    """
    groups: dict[tuple, list[Shot]] = {}
    for shot in shots:
        groups.setdefault(shot.agrees_in(), []).append(shot)
    ordered = sorted_by_model(groups.values(), lambda group: group[0].take.model)
    return [group[start : start + most] for group in ordered for start in range(0, len(group), most)]


def sorted_by_model(things: Iterable[T], model_of: Callable[[T], object]) -> list[T]:
    """In order of their models' first appearance, so that no model is loaded twice."""
    order: dict[int, int] = {}
    return sorted(things, key=lambda thing: order.setdefault(id(model_of(thing)), len(order)))


def _sampling_runs(run: Sequence[Shot]) -> int:
    take, mask = run[0].take, run[0].mask
    masks = {} if mask is None else {"noise_mask": mask}
    return runs_needed(take.model, take.sampler_name, take.sampler, masks, len(run))


def _latent(run: Sequence[Shot]) -> dict:
    latent = {"samples": torch.cat([shot.samples for shot in run])}
    if run[0].mask is not None:
        latent["noise_mask"] = torch.cat([shot.mask for shot in run])
    return latent


def _noise(run: Sequence[Shot]) -> torch.Tensor:
    """The shots' starting noise, each out of its own whole batch."""
    like = run[0].samples
    whole = {
        noise: starting_noise((noise.batch, *like.shape[1:]), like.dtype, noise.seed, noise.batch_index)
        for noise in {shot.noise for shot in run}
    }
    return torch.stack([whole[shot.noise][shot.row] for shot in run])


def _sample(run: Sequence[Shot], progress: Progress):
    """Give each shot its redone latent and its evaluations."""
    take, latent, (model, sigmas, said) = run[0].take, _latent(run), sampled(run[0])
    size = latent["samples"].shape[2:]
    rows, of_positive, of_negative = (_subset(run, name) for name in ("model", *CONDITIONING))
    if of_positive == of_negative:
        of_negative = of_positive  # a ControlNet that both share is cut once, so that both still share it
    samples, evaluations = sample_images(
        model,
        take.sampler_name,
        take.sampler,
        sigmas,
        take.cfg,
        of_positive.conditioning(take.positive, size),
        of_negative.conditioning(take.negative, size),
        latent,
        _noise(run),
        run[0].noise.seed,
        [shot.index for shot in run],
        progress,
        rows=rows,
    )
    in_parts = _sampling_runs(run) > 1 or not rows.whole
    for shot, sample, count in zip(run, samples.split(1), evaluations, strict=True):
        shot.samples, shot.evaluations, shot.in_parts, shot.said = sample, count, in_parts, said


def _subset(run: Sequence[Shot], name: str) -> Subset:
    """Which images of the batch that this input is for the shots are."""
    return Subset([shot.place_in_batch(name)[0] for shot in run], run[0].place_in_batch(name)[1])


def _decoded(take: Take) -> torch.Tensor:
    images = take.images.clone()
    decoded = decode(take.vae, torch.cat([shot.samples for shot in take.shots]))
    images[take.chosen] = fitted_to(images[take.chosen], decoded)
    return images


def _evaluations(take: Take) -> list[int]:
    counts = {shot.image: shot.evaluations for shot in take.shots}
    return [counts.get(image, 0) for image in range(len(take.images))]
