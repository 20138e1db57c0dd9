"""How far an image goes back towards noise before the teacher denoises it: by which number, to which sigma."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ..oracles.threshold import Threshold, percent_text
from ..samplers.rollback import noise_variance, schedule_fraction, sigma_to_variance, variance_to_sigma
from .batches import split

MODES = ("noise", "schedule")
FIXED, BY_SCORE = "fixed", "by score"


def badness(
    values: Sequence[float], threshold: Threshold, counts: Sequence[int], strengths: Sequence[str]
) -> list[list[float] | None]:
    """For each batch of so many images how far below the threshold each score is; None where that does not count.

    strengths: one for all batches, or one for each. Raises ValueError, where it counts, for a threshold without a
    calibration: a rank among the images of a batch would make each picture depend on the others.
    """
    if BY_SCORE not in strengths:
        return [None for _ in counts]
    try:
        found = threshold.badness(values)
    except ValueError as error:
        raise ValueError(f"strength is {BY_SCORE!r}, but {error}, or set strength to {FIXED!r}.") from error
    each = strengths if len(strengths) > 1 else [*strengths] * len(counts)
    return [batch if strength == BY_SCORE else None for batch, strength in zip(split(found, counts), each, strict=True)]


def rollback_of(take, badness: float | None, start: float | None) -> float:
    """How far back an image goes: ``start``, the table's, or the widget's; by its score on towards ``rollback_worst``.

    Other numbers than the widget's have two digits, as it has, so that what the node says can be typed in.
    """
    if start is None and badness is None:
        return take.rollback
    start = take.rollback if start is None else start
    if badness is not None:
        start += (take.rollback_worst - start) * badness
    return round(start, 2)


def sigmas_from(
    scheduler: Callable[[int], torch.Tensor], sampling, steps: int, rollback: float, mode: str
) -> torch.Tensor:
    """The teacher's noise levels [steps + 1], falling to 0, from the one that a rollback puts the image back to.

    scheduler: (steps) -> the whole schedule. sampling: the model's own, for its range and its kind.
    """
    if rollback == 1:
        return scheduler(steps)
    if mode == "schedule":
        return schedule_fraction(scheduler, steps, rollback)
    return noise_variance(
        scheduler, steps, rollback, float(sampling.sigma_min), float(sampling.sigma_max), is_flow(sampling)
    )


def is_flow(sampling) -> bool:
    from comfy.model_sampling import CONST

    return isinstance(sampling, CONST)


def words(sampling, rollback: float, mode: str, sigma: float, why: str = "") -> str:
    """What a rollback does: "noise 0.4: starts at sigma 0.816 (eps); 60 % of the variance is the picture's".

    sigma: where it starts. why: where the number comes from, if not from the widget.
    """
    from comfy.model_sampling import V_PREDICTION

    flow = is_flow(sampling)
    kind = "flow" if flow else "v" if isinstance(sampling, V_PREDICTION) else "eps"
    noise = 1.0 if flow and sigma >= 1 else sigma_to_variance(sigma, flow)
    text = f"{mode} {rollback:g}{why}: starts at sigma {sigma:.3g} ({kind}"
    if mode == "noise" and rollback < 1 and abs(variance_to_sigma(rollback, flow) / sigma - 1) > 1e-3:
        text += ", as far as its noise levels go"
    return f"{text}); {percent_text(1 - noise)} of the variance is the picture's"
