"""Best of n: the student's further tries at a picture, each from another seed, as the host made its first."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from ..samplers.best_of import best_of, seed_of_try
from . import host
from .counting import Evaluations, count_for
from .trouble import NotRedone, as_not_redone

# What a processing holds for each picture of its batch, where it has it.
PER_PICTURE = (
    *("prompts", "negative_prompts", "seeds", "subseeds", "c", "uc"),
    *("hr_prompts", "hr_negative_prompts", "hr_c", "hr_uc", "init_latent", "image_conditioning"),
)
OTHERS = ("batch_size", "rng", "sampler", "do_not_save_samples")


@dataclass
class Try:
    """A student of a picture. decoded: [3, H, W] in [-1, 1] on the CPU; latent: None where the host gave none."""

    decoded: torch.Tensor
    latent: torch.Tensor | None

    @property
    def pixels(self) -> torch.Tensor:
        return ((self.decoded.float() + 1) / 2).clamp(0, 1)


@dataclass
class Tried:
    """A batch after its tries. scores: of the chosen, NaN for none. first: the first tries, with first_scores.

    counts: how many tries were made of each picture. evaluations: of them all, None where not known. problem: why
    tries were broken off, "" if they were not.
    """

    chosen: list[Try]
    scores: list[float]
    first: list[Try]
    first_scores: list[float]
    seeds: list[int]
    subseeds: list[int]
    counts: list[int]
    evaluations: list[float | None]
    problem: str

    @property
    def latents(self) -> torch.Tensor | None:
        found = [each.latent for each in self.chosen]
        return None if any(latent is None for latent in found) else torch.stack(found)


def tries_of(
    p,
    samples,
    shape: Sequence[int],
    first: Evaluations,
    n: int,
    score: Callable[[Sequence[torch.Tensor], Sequence[int]], list[float]],
    passes: Callable[[float], bool] | None,
) -> Tried:
    """Up to ``n`` students of each picture of ``p``'s batch, of which ``samples`` are the first, the best chosen.

    shape: of a picture's noise. first: what one of them took. score: (pixels, places in the batch) -> scores, NaN for
    none. passes: what needs no other try; without it all are made. A try that fails ends them; those made count.
    """
    seeds, subseeds = list(p.seeds), list(p.subseeds)
    by_subseed = bool(p.subseed_strength)
    made_of, spent = [1] * len(seeds), [first.each] * len(seeds)
    firsts, problem = _decoded(p, samples), ""

    def numbers(place: int, number: int) -> tuple[int, int]:
        """Of a variation the other seed is the variation's."""
        seed, subseed = seeds[place], subseeds[place]
        return (seed, seed_of_try(subseed, 0, number)) if by_subseed else (seed_of_try(seed, 0, number), subseed)

    def student(places: torch.Tensor, number: int) -> list[Try | None]:
        nonlocal problem
        if number == 0:
            return firsts
        rows = places.tolist()
        problem = problem or host.interrupted()
        if problem:
            return [None] * len(rows)
        try:
            with as_not_redone(lambda: "another try"):
                made, each = _sampled(p, rows, [numbers(place, number) for place in rows], shape)
            problem = host.cut_short()
        except NotRedone as error:
            problem = str(error)
        if problem:
            return [None] * len(rows)
        for place in rows:
            made_of[place] += 1
            spent[place] = None if each is None or spent[place] is None else spent[place] + each
        return made

    def oracle(made: Sequence[Try | None], places: torch.Tensor) -> list[float]:
        there = [i for i, each in enumerate(made) if each is not None]
        values = [-math.inf] * len(made)
        found = score([made[i].pixels for i in there], [int(places[i]) for i in there]) if there else []
        for i, value in zip(there, found, strict=True):
            values[i] = -math.inf if math.isnan(value) else value
        return values

    def passing(values: torch.Tensor) -> list[bool]:
        return [value > -math.inf and passes(value) for value in values.tolist()]

    result = best_of(student, oracle, len(seeds), n, passes=passing if passes is not None else None)
    chosen = [numbers(place, number) for place, number in enumerate(result.chosen.tolist())]
    return Tried(
        chosen=result.images,
        scores=_or_nan(result.scores),
        first=firsts,
        first_scores=_or_nan(result.all_scores[:, 0]),
        seeds=[seed for seed, _ in chosen],
        subseeds=[subseed for _, subseed in chosen],
        counts=made_of,
        evaluations=spent,
        problem=problem,
    )


def _or_nan(scores: torch.Tensor) -> list[float]:
    return [value if value > -math.inf else math.nan for value in scores.tolist()]


def _decoded(p, samples) -> list[Try]:
    """As the host decodes, unless it has."""
    from modules import devices
    from modules.processing import decode_latent_batch

    if getattr(samples, "already_decoded", False):
        return [Try(sample.cpu(), None) for sample in samples]
    decoded = decode_latent_batch(p.sd_model, samples, target_device=devices.cpu, check_for_nans=True)
    return [Try(picture, latent) for picture, latent in zip(decoded, samples.detach().cpu(), strict=True)]


def _sampled(p, rows: Sequence[int], numbers: Sequence[tuple[int, int]], shape) -> tuple[list[Try], float | None]:
    """Students of some pictures of the batch from these (seed, subseed), and what each took."""
    from modules import devices, extra_networks

    hires = getattr(p, "enable_hr", False)
    text = f"Understudy: another try of {len(rows)} pictures"
    progress = host.shown_pass(p.steps, text, 2 if hires else 1)
    with progress, host.undisturbed(()), _only(p, rows, numbers, shape):
        host.load_chosen_checkpoint()  # a refiner or hires fix may have had another, and other networks
        if hires and not p.disable_extra_networks:
            with devices.autocast():
                extra_networks.activate(p, p.extra_network_data)
        counted, upcast = count_for(p), getattr(devices, "unet_needs_upcast", False)
        with devices.without_autocast() if upcast else devices.autocast():
            samples = p.sample(
                conditioning=p.c,
                unconditional_conditioning=p.uc,
                seeds=p.seeds,
                subseeds=p.subseeds,
                subseed_strength=p.subseed_strength,
                prompts=p.prompts,
            )
        if host.cut_short():
            return [], None
        return _decoded(p, samples), counted.each


@contextmanager
def _only(p, rows: Sequence[int], numbers: Sequence[tuple[int, int]], shape: Sequence[int]) -> Iterator[None]:
    """The processing as if its batch were these pictures, with these seeds; afterwards as it was."""
    from modules.rng import ImageRNG

    held = {name: getattr(p, name) for name in (*PER_PICTURE, *OTHERS) if hasattr(p, name)}
    count = len(p.seeds)
    try:
        for name in PER_PICTURE:
            if held.get(name) is not None:
                setattr(p, name, _rows(held[name], rows, count))
        p.seeds, p.subseeds = [seed for seed, _ in numbers], [subseed for _, subseed in numbers]
        p.batch_size = len(rows)
        p.do_not_save_samples = True  # of what hires fix starts from
        p.rng = ImageRNG(
            shape,
            p.seeds,
            subseeds=p.subseeds,
            subseed_strength=p.subseed_strength,
            seed_resize_from_h=p.seed_resize_from_h,
            seed_resize_from_w=p.seed_resize_from_w,
        )
        yield
    finally:
        for name, value in held.items():
            setattr(p, name, value)


def _rows(value, rows: Sequence[int], count: int):
    """The entries of some pictures, of whatever kind holds one for each."""
    if hasattr(value, "batch"):  # prompts joined by AND
        part = copy.copy(value)
        part.batch, part.shape = [value.batch[row] for row in rows], (len(rows),)
        return part
    if len(value) != count:  # one for all
        return value
    return value[list(rows)] if isinstance(value, torch.Tensor) else type(value)(value[row] for row in rows)
