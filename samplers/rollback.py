"""Rollback: how far an image goes back towards noise before the teacher denoises it again.

The paper's algorithm and its published pipeline disagree on what the rollback value means (arXiv 2312.10835), so both
are here. They return the teacher's sigmas, [steps + 1], and know nothing of the model but what they are given: a
scheduler `(steps) -> sigmas` and, for the noise level, the model's range. The image is then put at sigmas[0] by the
model's own `noise_scaling`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from .schedules import last_steps

# The search for a noise level stops here: models have 1,000 timesteps, and longer schedules only crowd them.
_LONGEST = 1000
# Noise levels that differ by less than this part are one: no step is made between them.
_SAME = 1e-3


def schedule_fraction(scheduler: Callable[[int], torch.Tensor], steps: int, fraction: float) -> torch.Tensor:
    """Rollback as a fraction of the schedule (the published pipeline's `sigma`, the host's `denoise`).

    Exactly `steps` steps for every fraction in (0, 1]. Raises ValueError for a fraction outside it or steps below 1.
    """
    return last_steps(scheduler, steps, fraction)


def variance_to_sigma(variance: float, flow: bool = False) -> float:
    """The sigma at which noise makes up `variance` of the variance of a unit-variance image (algorithm 1, line 5).

    sqrt(s / (1 - s)) for eps and v models, 1 / (1 + sqrt((1 - s) / s)), the same signal-to-noise ratio, for flow
    models. Raises ValueError for a variance outside (0, 1).
    """
    if not 0 < variance < 1:
        raise ValueError(f"the noise variance is {variance}; expected a number between 0 and 1, without either end")
    return 1 / (1 + ((1 - variance) / variance) ** 0.5) if flow else (variance / (1 - variance)) ** 0.5


def sigma_to_variance(sigma: float, flow: bool = False) -> float:
    """The inverse of `variance_to_sigma`: the noise's share of the variance at a positive sigma, for flow below 1.

    Raises ValueError for a sigma out of that range.
    """
    if not 0 < sigma < (1 if flow else float("inf")):
        raise ValueError(f"sigma is {sigma}; expected more than 0" + (" and less than 1" if flow else ""))
    signal = 1 - sigma if flow else 1.0
    return sigma**2 / (sigma**2 + signal**2)


def noise_variance(
    scheduler: Callable[[int], torch.Tensor],
    steps: int,
    variance: float,
    sigma_min: float,
    sigma_max: float,
    flow: bool = False,
) -> torch.Tensor:
    """Rollback as noise variance (algorithm 1, line 5): start at `variance_to_sigma`, clipped to the model's range.

    The remaining sigmas follow the scheduler's curve: they lie between the last steps of the two schedules, one step
    apart in length, whose last steps start above and below that sigma. So where a schedule fraction starts at the same
    sigma, both meanings give the same sigmas.
    Raises ValueError for a variance outside (0, 1), steps below 1, or a scheduler without that many falling steps.
    """
    if steps < 1:
        raise ValueError(f"{steps} steps; expected at least 1")
    start = min(max(variance_to_sigma(variance, flow), float(sigma_min)), float(sigma_max))
    scheduler = functools.cache(scheduler)
    length = _longest_above(scheduler, steps, start)
    above, below = _tail(scheduler, length, steps), _tail(scheduler, length + 1, steps)
    if _falls(above, steps) and _falls(below, steps) and above[0] > start > below[0]:
        sigmas = torch.lerp(above, below, (above[0] - start) / (above[0] - below[0]))
    else:
        # The scheduler has no steps that start as low as this sigma, or none as high: stretch the nearest it has.
        nearest = above if _falls(above, steps) else below
        if not _falls(nearest, steps):
            raise ValueError(f"the scheduler has no {steps} falling steps; take fewer steps or another scheduler")
        sigmas = nearest * (start / nearest[0])
    return sigmas.float()


def last_part(sigmas: torch.Tensor, fraction: float) -> torch.Tensor:
    """Rollback as a fraction of given sigmas [n + 1]: their last round(n * fraction) steps, at least one.

    The host's Split Sigmas Denoise. Raises ValueError for a fraction outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"the schedule fraction is {fraction}; expected more than 0 and at most 1")
    return sigmas[-(max(round((len(sigmas) - 1) * fraction), 1) + 1) :]


def part_below(sigmas: torch.Tensor, variance: float, flow: bool = False) -> torch.Tensor:
    """Rollback as noise variance in given sigmas [n + 1]: from `variance_to_sigma` on, through those that lie below.

    All of them where they begin below it. Raises ValueError for a variance outside (0, 1).
    """
    start = variance_to_sigma(variance, flow)
    if start >= sigmas[0]:
        return sigmas
    below = sigmas[sigmas < start * (1 - _SAME)]
    return torch.cat([sigmas.new_tensor([start]), below])


def _longest_above(scheduler: Callable[[int], torch.Tensor], steps: int, start: float) -> int:
    """The largest schedule whose last `steps` steps start at `start` or above; `steps` if there is none."""

    def starts_above(length: int) -> bool:
        tail = _tail(scheduler, length, steps)
        return _falls(tail, steps) and bool(tail[0] >= start)

    low, high = steps, steps + 1
    while high <= _LONGEST and starts_above(high):
        low, high = high, min(2 * high, _LONGEST + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if starts_above(middle) else (low, middle)
    return low


def _tail(scheduler: Callable[[int], torch.Tensor], length: int, steps: int) -> torch.Tensor:
    return scheduler(length)[-(steps + 1) :].double()


def _falls(tail: torch.Tensor, steps: int) -> bool:
    # Some schedulers repeat a sigma, or return fewer, once they are asked for more steps than the model has.
    return len(tail) == steps + 1 and bool((tail.diff() < 0).all())
