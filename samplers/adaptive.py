"""Adaptive teacher-student sampling (arXiv 2312.10835, algorithm 1), over three callables and for a whole batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .decisions import BY_STRATEGY, KEPT


@dataclass(frozen=True)
class Adaptive:
    """What became of a batch of B images.

    images: [B, ...], the student's where kept and the teacher's where rejected. student_images: [B, ...].
    scores: [B] float32 on the CPU, of the student's images. rejected: [B] bool on the CPU.
    decisions: for each image ``decisions.KEPT``, ``REFINED`` or ``REGENERATED``.
    """

    images: torch.Tensor
    student_images: torch.Tensor
    scores: torch.Tensor
    rejected: torch.Tensor
    decisions: list[str]


def adaptive(
    student: Callable[[], torch.Tensor],
    oracle: Callable[[torch.Tensor], torch.Tensor],
    teacher: Callable[[torch.Tensor | None, torch.Tensor], torch.Tensor],
    *,
    reject: Callable[[torch.Tensor], torch.Tensor],
    strategy: str = "refine",
    on_stage: Callable[[str, int | None], None] | None = None,
) -> Adaptive:
    """Student for all images, one oracle call, teacher for the rejected ones only, results put back in order.

    student: `() -> images [B, ...]`. oracle: `(images) -> scores [B]`, higher is better.
    reject: `(scores [B]) -> bool [B]`; in algorithm 1, scores < threshold.
    teacher: `(start, indices) -> images [len(indices), ...]`; indices are the rejected images' places in the batch,
    rising; start is the student's images there, or None for the strategy "regenerate". Not called if none is rejected.
    on_stage: told before each stage: "student" (None), "oracle" (B), "teacher" (number of rejected images).
    Kept images are the student's bit for bit. Raises ValueError for an unknown strategy, a score that is NaN, or a
    callable that returns another number or shape of images than it was asked for.
    """
    if strategy not in BY_STRATEGY:
        raise ValueError(f"strategy is {strategy!r}; expected one of {', '.join(BY_STRATEGY)}")
    tell = on_stage or (lambda stage, images: None)

    tell("student", None)
    student_images = student()
    count = len(student_images)

    tell("oracle", count)
    scores = torch.as_tensor(oracle(student_images)).detach().to("cpu", torch.float32)
    if scores.shape != (count,):
        raise ValueError(f"the oracle returned scores of shape {tuple(scores.shape)} for {count} images")
    if scores.isnan().any():
        raise ValueError(f"the oracle's score of image {int(scores.isnan().nonzero()[0]) + 1} is NaN")

    rejected = torch.as_tensor(reject(scores)).cpu()
    if rejected.shape != (count,) or rejected.dtype != torch.bool:
        raise ValueError(
            f"`reject` returned {rejected.dtype} of shape {tuple(rejected.shape)}; "
            f"expected one bool for each of {count} images"
        )
    indices = rejected.nonzero().flatten()
    images = student_images
    if len(indices):
        tell("teacher", len(indices))
        place = indices.to(student_images.device)
        redone = teacher(student_images[place] if strategy == "refine" else None, indices)
        if redone.shape != (len(indices), *student_images.shape[1:]):
            raise ValueError(
                f"the teacher returned images of shape {tuple(redone.shape)} for {len(indices)} rejected images; "
                f"expected {(len(indices), *student_images.shape[1:])}"
            )
        images = student_images.index_copy(0, place, redone.to(student_images))
    decisions = [BY_STRATEGY[strategy] if bad else KEPT for bad in rejected.tolist()]
    return Adaptive(images, student_images, scores, rejected, decisions)
