"""Sigma schedules over a denoiser: [steps + 1], falling, the last 0.

A denoiser here is anything with `sigma_min`, `sigma_max`, `sigmas`, `t_to_sigma` and `sigma_to_t` (see `denoisers`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

# Timesteps on which consistency students are distilled, where nothing else is said.
GRID = 50


def normal_sigmas(model, steps: int) -> torch.Tensor:
    """Uniform in timesteps from sigma_max to sigma_min, then 0 (the host's `normal`)."""
    return _with_zero(model.t_to_sigma(torch.linspace(*_time_range(model), _positive(steps))))


def trailing_sigmas(model, steps: int) -> torch.Tensor:
    """Uniform in timesteps from sigma_max, stopping one step before the end, then 0 (the host's `sgm_uniform`)."""
    return _with_zero(model.t_to_sigma(torch.linspace(*_time_range(model), _positive(steps) + 1)[:-1]))


def karras_sigmas(model, steps: int, rho: float = 7.0) -> torch.Tensor:
    """Uniform in sigma ** (1 / rho) (Karras et al. 2022, eq. 5)."""
    high, low = model.sigma_max ** (1 / rho), model.sigma_min ** (1 / rho)
    return _with_zero(torch.linspace(high, low, _positive(steps)) ** rho)


def grid_sigmas(sigmas: torch.Tensor, grid: int = GRID) -> torch.Tensor:
    """The rising sigmas [grid] at a consistency student's timesteps, 19, 39, … 999 for a grid of 50, of a model's."""
    return sigmas.flip(0)[:: len(sigmas) // grid][:grid].flip(0)


def timestep_sigmas(model, timesteps: Sequence[int], steps: int, fraction: float = 1.0) -> torch.Tensor:
    """The first `steps` of given timesteps, then 0. With the fraction f, the first of the last int(f n) of n timesteps,
    as the host's `SDTurboScheduler` takes them.

    Raises ValueError for a fraction outside (0, 1], steps below 1 or more than are left.
    """
    last = int(len(timesteps) * _fraction(fraction))
    if _positive(steps) > last:
        raise ValueError(
            f"{steps} steps at a denoise of {fraction:g}, but of the {len(timesteps)} timesteps that the student knows "
            f"only {last} are left there: take fewer steps or more denoise"
        )
    start = len(timesteps) - last
    return _with_zero(model.t_to_sigma(torch.tensor(timesteps[start : start + steps])))


def given_sigmas(sigmas: Sequence[float], steps: int, fraction: float = 1.0) -> torch.Tensor:
    """A student's own sigmas, which end in 0. With a fraction below 1, as many of the last steps as it says, as the
    host's `SplitSigmasDenoise` takes them.

    Raises ValueError for a fraction outside (0, 1], one that leaves no step, or steps other than these have.
    """
    own = len(sigmas) - 1
    if steps != own:
        raise ValueError(f"{steps} steps, but the student has a fixed schedule of {own}: set steps to {own}")
    left = round(own * _fraction(fraction))
    if left == 0:
        raise ValueError(f"a denoise of {fraction:g} leaves none of the student's {own} steps: take more")
    return torch.tensor(sigmas[own - left :])


def flux2_sigmas(steps: int, tokens: int) -> torch.Tensor:
    """FLUX.2's schedule: uniform in time, shifted by a mu that depends on the steps and the image's tokens of 16 x 16
    pixels each (Black Forest Labs' fit, which the host's `Flux2Scheduler` has)."""
    mu = at_200 = 0.00016927 * tokens + 0.45666666
    if tokens <= 4300:  # above, the same for any number of steps
        at_10 = 8.73809524e-05 * tokens + 1.89833333
        mu = at_200 + (at_10 - at_200) * (200 - _positive(steps)) / 190
    u, shift = torch.linspace(1, 0, _positive(steps) + 1), math.exp(mu)
    return shift * u / (1 + (shift - 1) * u)


def consistency_sigmas(model, steps: int, grid: int = GRID, spacing: str = "trailing") -> torch.Tensor:
    """Evenly chosen from the `grid` timesteps at which a consistency student was distilled.

    spacing: "trailing", the latent consistency models' 999, 979, … 19 for a grid of 50, or "leading", 981, 961, … 1.
    The latter's last sampling step, at timestep 1, is the identity by the boundary condition, so 0 stands in its place.
    Raises ValueError for an unknown spacing, or for steps or a grid that do not fit.
    """
    timesteps = len(model.sigmas)
    if not 1 <= grid <= timesteps or timesteps % grid:
        raise ValueError(f"a grid of {grid} does not divide the model's {timesteps} timesteps")
    if not 1 <= steps <= grid:
        raise ValueError(f"{steps} steps on a consistency grid of {grid}; expected 1 to {grid}")
    if spacing not in ("trailing", "leading"):
        raise ValueError(f"spacing is {spacing!r}; expected 'trailing' or 'leading'")
    stride = timesteps // grid
    first = timesteps - 1 if spacing == "trailing" else timesteps - stride + 1
    chosen = torch.tensor([j * grid // steps for j in range(steps)])
    return _with_zero(model.sigmas[first - stride * chosen])


def last_consistency_steps(
    model, steps: int, fraction: float, grid: int = GRID, spacing: str = "trailing", called: str = "denoise"
) -> torch.Tensor:
    """`last_steps` of `consistency_sigmas`, whose `int(steps / fraction)` steps may be more than the grid has.

    The level to start from is then still the one `steps` before their end, and the steps are the grid's last ones.
    Raises ValueError as those two do, and where the grid has fewer than `steps` timesteps from that level on; it names
    the fraction as it is `called` where it was set.
    """

    def sigmas(count: int) -> torch.Tensor:
        if steps < count and grid < count:
            left = grid - (count - steps) * grid // count
            if left < steps:
                raise ValueError(
                    f"{steps} steps at a {called} of {fraction:g}, but of the {grid} timesteps that the student knows "
                    f"only {left} are left there: take fewer steps or more {called}"
                )
            count = grid
        return consistency_sigmas(model, count, grid, spacing)

    return last_steps(sigmas, steps, fraction)


SCHEDULES: dict[str, Callable[..., torch.Tensor]] = {
    "normal": normal_sigmas,
    "trailing": trailing_sigmas,
    "karras": karras_sigmas,
    "consistency": consistency_sigmas,
}


def last_steps(sigmas_fn: Callable[[int], torch.Tensor], steps: int, fraction: float) -> torch.Tensor:
    """The last `steps` of `int(steps / fraction)` steps: the host's `denoise`, which always executes exactly `steps`.

    sigmas_fn: number of steps to sigmas. Raises ValueError for a fraction outside (0, 1] or steps below 1.
    """
    _fraction(fraction)
    _positive(steps)
    # The host treats everything above 0.9999 as 1.
    return sigmas_fn(steps) if fraction > 0.9999 else sigmas_fn(int(steps / fraction))[-(steps + 1) :]


def _time_range(model) -> tuple[float, float]:
    return float(model.sigma_to_t(model.sigma_max)), float(model.sigma_to_t(model.sigma_min))


def _with_zero(sigmas: torch.Tensor) -> torch.Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def _fraction(fraction: float) -> float:
    if not 0 < fraction <= 1:
        raise ValueError(f"the schedule fraction is {fraction}; expected more than 0 and at most 1")
    return fraction


def _positive(steps: int) -> int:
    if steps < 1:
        raise ValueError(f"{steps} steps; expected at least 1")
    return steps
