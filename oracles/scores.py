"""Scores that travel with what they belong to: image, prompt, oracle, settings and, later, decisions."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from .base import OracleError


def image_id(image: torch.Tensor) -> str:
    """SHA-256 of an image's 8-bit pixels (``[3 or 4, H, W]`` in [0, 1]): the same everywhere for the same picture."""
    if image.ndim != 3:
        raise OracleError(f"image has shape {list(image.shape)}; expected [3, H, W]")
    digest = hashlib.sha256(repr(tuple(image.shape)).encode())
    for channel in image.detach():  # one by one, as a large picture's numbers in float32 are four times its pixels
        digest.update(channel.float().clamp(0, 1).mul_(255).round_().to(torch.uint8).cpu().contiguous().numpy())
    return digest.hexdigest()


# The fields of Scores that hold one entry per image; the others are of all images together.
PER_IMAGE = ("values", "image_ids", "prompts", "decisions", "scores_after", "tries", "student_evaluations")
# Those that may be empty: until the teacher has been, and where nobody counted what the student cost.
OPTIONAL = ("decisions", "scores_after", "tries", "student_evaluations")


@dataclass(frozen=True)
class Scores:
    """One score per image. ``oracle`` is its file's SHA-256 and ``family`` what it is, None for scores from elsewhere;
    ``settings`` are the student's inference settings; ``decisions`` and ``scores_after`` are empty until the teacher
    has been. ``literal``: the prompts were read as they stand, with what is syntax (``prompt_syntax``).
    ``against``: a hash of the pictures that the images were compared with, None where they were with none.
    ``tries``: how many students of an image were made, of which this one was taken, and ``student_evaluations`` the
    network evaluations that these took together, counted; both are empty where nobody counted.

    Raises :class:`OracleError` for counts that differ and for NaN.
    """

    values: tuple[float, ...]
    image_ids: tuple[str, ...]
    oracle: str | None
    prompts: tuple[str, ...]
    settings: dict | None = None
    decisions: tuple[str, ...] = ()
    scores_after: tuple[float | None, ...] = ()
    family: str | None = None
    literal: bool = False
    against: str | None = None
    tries: tuple[int, ...] = ()
    student_evaluations: tuple[int, ...] = ()

    def __post_init__(self):
        for name in PER_IMAGE:
            count = len(getattr(self, name))
            if count != len(self.values) and not (name in OPTIONAL and count == 0):
                raise OracleError(f"{len(self.values)} scores but {count} {name}; expected one per image")
        refuse_nan(self.values, range(len(self.values)))

    def of(self, images: Sequence[int]) -> Scores:
        """The scores of some images, by their places and in that order; what is not per image stays as it is."""
        entries = {name: getattr(self, name) for name in PER_IMAGE}
        return replace(self, **{name: tuple(held[i] for i in images) for name, held in entries.items() if held})


def as_numbers(given: torch.Tensor, places: Sequence[int]) -> list[float]:
    """What an oracle gave the images at these places among all, from 0: a number for each.

    Raises :class:`OracleError` for another count, and for NaN, which is neither better nor worse than any score.
    """
    if given.shape != (len(places),):
        raise OracleError(f"the oracle returned scores of shape {tuple(given.shape)} for {len(places)} images")
    values = given.tolist()
    refuse_nan(values, places)
    return values


def refuse_nan(values: Sequence[float], places: Iterable[int]) -> None:
    """Raise :class:`OracleError` for NaN among the scores of the images at these places among all, from 0."""
    for place, value in zip(places, values, strict=True):
        if math.isnan(value):
            raise OracleError(f"the score of image {place + 1} is not a number (NaN)")


def values_of(scores: Sequence[Scores], images: int) -> list[float]:
    """All scores of a list in one; raises ValueError unless there is one per image."""
    values = [value for each in scores for value in each.values]
    if len(values) != images:
        raise ValueError(f"{len(values)} scores, but {images} images: give the scores of exactly these images.")
    return values
