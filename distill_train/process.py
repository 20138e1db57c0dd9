"""The diffusion process of a discrete-time teacher: ``z_t = alpha_t x0 + sigma_t eps``, alpha^2 + sigma^2 = 1."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

PREDICTIONS = ("epsilon", "v_prediction", "sample")


class Level(NamedTuple):
    """alpha and sigma of some noisy latents, each [B, 1, 1, 1]."""

    alpha: Tensor
    sigma: Tensor

    def noisy(self, x0: Tensor, eps: Tensor) -> Tensor:
        """z, of x0's shape. With a model's own x0 and eps at another level this is a DDIM step to here."""
        return self.alpha * x0 + self.sigma * eps

    @property
    def snr(self) -> Tensor:
        """Signal-to-noise ratio alpha^2 / sigma^2, infinite for clean latents."""
        return (self.alpha / self.sigma).square()


class Levels:
    """Timesteps to noise levels. alphas_cumprod: [T], falling. Timesteps up to ``clean_until`` count as the data.

    -1 names the data where no timestep does; the student of the adaptive paper has alpha_bar := 1 at t <= 1 instead.
    """

    def __init__(self, alphas_cumprod: Tensor, clean_until: int = -1):
        self.alphas_cumprod, self.clean_until = alphas_cumprod.float(), clean_until

    def __call__(self, t: Tensor) -> Level:
        """The level of timesteps t [B], whole numbers from -1 to T - 1."""
        squared = torch.where(t <= self.clean_until, 1.0, self.alphas_cumprod[t.clamp(min=0)])[:, None, None, None]
        return Level(squared.sqrt(), (1 - squared).sqrt())


def x0_and_eps(output: Tensor, z: Tensor, level: Level, prediction: str) -> tuple[Tensor, Tensor]:
    """What a network's output at z says about the data and the noise, each of z's shape.

    prediction: "epsilon", "v_prediction" with v = alpha eps - sigma x0, or "sample". Raises ValueError for another one.
    """
    alpha, sigma = level
    if prediction == "epsilon":
        return (z - sigma * output) / alpha, output
    if prediction == "v_prediction":
        return alpha * z - sigma * output, sigma * z + alpha * output
    if prediction == "sample":
        return output, (z - alpha * output) / sigma
    raise ValueError(f"prediction is {prediction!r}; expected one of {', '.join(PREDICTIONS)}")


def guided(cond: Tensor, uncond: Tensor, cfg: Tensor | float) -> Tensor:
    """Classifier-free guidance, uncond + cfg (cond - uncond). cfg: one scale, or one for each row."""
    if isinstance(cfg, Tensor):
        cfg = cfg.reshape(-1, 1, 1, 1)
    return uncond + cfg * (cond - uncond)


def solve(denoise: Callable, levels: Levels, z: Tensor, times: list[Tensor]) -> Tensor:
    """z [B, ...] carried by DDIM through ``times`` [B] each, the first being where z is (Song et al. 2020, eq. 12).

    denoise: ``(z, t) -> (x0, eps)``.
    """
    for t, s in zip(times[:-1], times[1:], strict=True):
        z = levels(s).noisy(*denoise(z, t))
    return z
