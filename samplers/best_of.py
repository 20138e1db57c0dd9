"""Best of n: several students of one image, each from its own seed, over two callables and for a whole batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

# Below this a front end's number widget, which holds floats, keeps every digit of a seed that is typed into it.
TYPED = 2**50


@dataclass(frozen=True)
class BestOf:
    """What became of B images. Scores are float32 on the CPU, counts int64.

    images: B of them, each from its chosen try. scores: [B], of those. tries: [B], how many were made, 1 to n.
    chosen: [B], which of them it is, from 0. passed: [B] bool, whether it passed; none does without ``passes``.
    all_scores: [B, n], of every try; NaN for those that were not made.
    """

    images: list[torch.Tensor]
    scores: torch.Tensor
    tries: torch.Tensor
    chosen: torch.Tensor
    passed: torch.Tensor
    all_scores: torch.Tensor


def best_of(
    student: Callable[[torch.Tensor, int], Sequence[torch.Tensor]],
    oracle: Callable[[Sequence[torch.Tensor], torch.Tensor], torch.Tensor],
    batch: int,
    n: int,
    *,
    passes: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> BestOf:
    """Up to n tries of each of ``batch`` images, scored round by round; each image stops at its first try that passes.

    student: `(indices, round) -> images`, one for each index, as a tensor or a list; indices are the places, rising,
    of the images that are still open, and round counts from 0. What an image gets may depend on its index and the
    round alone; then so does its result. oracle: `(images, indices) -> scores [len(indices)]`, higher is better; images
    are what the student returned. passes: `(scores [k]) -> bool [k]`, score by score, as `scores >= threshold`.
    An image is the try that passed; where none did, the one with the highest score, of equal ones the first. Without
    ``passes`` all n tries are made. No callable is asked for no images.
    Raises ValueError for less than one image or try, a score that is NaN, or a callable that returns another number
    than it was asked for.
    """
    for name, value in (("batch", batch), ("n", n)):
        if value < 1:
            raise ValueError(f"{name} is {value}; expected at least 1")
    images: list = [None] * batch
    all_scores = torch.full((batch, n), torch.nan)
    tries, chosen = torch.zeros(batch, dtype=torch.int64), torch.zeros(batch, dtype=torch.int64)
    scores, passed = torch.full((batch,), -torch.inf), torch.zeros(batch, dtype=torch.bool)
    for number in range(n):
        places = (~passed).nonzero().flatten()
        if not len(places):
            break
        made = student(places, number)
        if len(made) != len(places):
            raise ValueError(f"the student returned {len(made)} images for {len(places)} in round {number}")
        values = _scores(oracle(made, places), places, number)
        done = torch.zeros(len(places), dtype=torch.bool) if passes is None else _passing(passes(values), len(places))
        all_scores[places, number] = values
        tries[places] = number + 1
        better = done | (values > scores[places]) | (number == 0)
        scores[places[better]], chosen[places[better]] = values[better], number
        for entry in better.nonzero().flatten().tolist():
            images[places[entry]] = made[entry]
        passed[places] = done
    return BestOf(images, scores, tries, chosen, passed, all_scores)


def seed_of_try(seed: int, index: int, number: int) -> int:
    """The seed of try ``number``, from 0, of the image whose noise has this seed and index in its batch.

    Try 0 is the image itself: its seed, and its place in the batch's noise. Each further try is a seed of its own for a
    batch of one image, so that a sampler repeats it for the image alone; it is below 2**50, so that it can be typed.
    It is no number near ``seed``, whose neighbours are the next images' of somebody who counts seeds up.
    """
    if number == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed % 2**64},{index},{number}".encode()).digest()[:8], "big") % TYPED


def _scores(given, places: torch.Tensor, number: int) -> torch.Tensor:
    scores = torch.as_tensor(given).detach().to("cpu", torch.float32)
    if scores.shape != places.shape:
        raise ValueError(f"the oracle returned scores of shape {tuple(scores.shape)} for {len(places)} images")
    if scores.isnan().any():
        image = int(places[scores.isnan()][0])
        raise ValueError(f"the oracle's score of image {image + 1} in round {number} is NaN")
    return scores


def _passing(given, count: int) -> torch.Tensor:
    passing = torch.as_tensor(given).cpu()
    if passing.shape != (count,) or passing.dtype != torch.bool:
        raise ValueError(
            f"`passes` returned {passing.dtype} of shape {tuple(passing.shape)}; "
            f"expected one bool for each of {count} scores"
        )
    return passing
