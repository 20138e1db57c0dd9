"""Best of n: the student's further tries at a picture, each from another seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..samplers.best_of import best_of, seed_of_try
from . import host
from .counting import Evaluations
from .sampling_again import Try, decoded, sampled_again
from .trouble import NotRedone, as_not_redone


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
    firsts, problem = decoded(p, samples), ""

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
                made, each = sampled_again(p, rows, [numbers(place, number) for place in rows], shape)
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
