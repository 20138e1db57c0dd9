"""Networks as k-diffusion denoisers: `model(x, sigma[B], **conditioning) -> x0`.

Discrete-time models live in the variance-exploding scale, `x = x0 + sigma * noise`; flow models in their own,
`x = (1 - t) x0 + t noise` with `sigma = t`. Every method takes sigmas of shape [B] or [].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

PREDICTIONS = ("eps", "v", "x0")


class Prediction(NamedTuple):
    """One prediction in its three forms, each of x's shape."""

    x0: torch.Tensor
    eps: torch.Tensor
    v: torch.Tensor


class DiscreteDenoiser:
    """A network trained at T whole timesteps (SD 1.x, SDXL, the demo family).

    network: `network(x_t, t[B] float, **conditioning) -> [B, ...]`, where x_t = sqrt(ab) x0 + sqrt(1 - ab) eps.
    alphas_cumprod: [T], falling, within (0, 1). prediction: what the network returns: "eps", "v" or "x0", with
    v = sqrt(ab) eps - sqrt(1 - ab) x0 (Salimans and Ho 2022, appendix D).
    quantize: call the network at the nearest whole timestep, as ComfyUI does.
    Raises ValueError for an unknown prediction or alphas_cumprod out of order or range.
    """

    def __init__(
        self,
        network: Callable[..., torch.Tensor],
        alphas_cumprod: torch.Tensor,
        prediction: str = "eps",
        quantize: bool = True,
    ):
        if prediction not in PREDICTIONS:
            raise ValueError(f"prediction is {prediction!r}; expected one of {', '.join(PREDICTIONS)}")
        ab = torch.as_tensor(alphas_cumprod, dtype=torch.float64)
        if ab.ndim != 1 or len(ab) < 2 or not (ab.min() > 0 and ab.max() < 1 and (ab.diff() < 0).all()):
            raise ValueError(
                "alphas_cumprod must be a falling sequence within (0, 1); for a schedule with zero terminal SNR, "
                "replace its last value by a small positive one"
            )
        self.network, self.prediction, self.quantize = network, prediction, quantize
        self.sigmas = ((1 - ab) / ab).sqrt().float()
        self.log_sigmas = self.sigmas.log()

    @property
    def sigma_min(self) -> float:
        return float(self.sigmas[0])

    @property
    def sigma_max(self) -> float:
        return float(self.sigmas[-1])

    def t_to_sigma(self, t: torch.Tensor | float) -> torch.Tensor:
        """Timestep in [0, T - 1] to sigma, linear in log sigma between whole timesteps; clipped to the range."""
        t = torch.as_tensor(t, dtype=torch.float32)
        table = self.log_sigmas.to(t.device)
        t = t.clamp(0, len(table) - 1)
        return torch.lerp(table[t.floor().long()], table[t.ceil().long()], t.frac()).exp()

    def sigma_to_t(self, sigma: torch.Tensor | float) -> torch.Tensor:
        """The inverse of `t_to_sigma`, clipped to [0, T - 1]."""
        log_sigma = torch.as_tensor(sigma, dtype=torch.float32).log()
        table = self.log_sigmas.to(log_sigma.device)
        low = (torch.searchsorted(table, log_sigma.contiguous(), right=True) - 1).clamp(0, len(table) - 2)
        fraction = (log_sigma - table[low]) / (table[low + 1] - table[low])
        return low + fraction.clamp(0, 1)

    def noise_scaling(self, sigma, noise: torch.Tensor, x0: torch.Tensor, max_denoise: bool = False) -> torch.Tensor:
        """x at `sigma`: x0 + sigma * noise. `max_denoise`: sigma is the model's largest, and x must look like noise."""
        sigma = _per_image(sigma, noise)
        return x0 + noise * (1 + sigma**2).sqrt() if max_denoise else x0 + noise * sigma

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, **conditioning) -> torch.Tensor:
        t = self.sigma_to_t(sigma).to(x.device).expand(x.shape[0])
        sigma = _per_image(sigma, x)
        scale = (1 + sigma**2).rsqrt()  # sqrt(ab); sigma * scale is sqrt(1 - ab)
        output = self.network(x * scale, t.round() if self.quantize else t, **conditioning).to(x.dtype)
        if self.prediction == "eps":
            return x - output * sigma
        if self.prediction == "v":
            return x * scale**2 - output * sigma * scale
        return output

    def prediction_at(self, x: torch.Tensor, sigma: torch.Tensor, **conditioning) -> Prediction:
        """The model's x0, eps and v at x: one evaluation."""
        x0 = self(x, sigma, **conditioning)
        sigma = _per_image(sigma, x)
        eps = (x - x0) / sigma
        return Prediction(x0, eps, (eps - sigma * x0) * (1 + sigma**2).rsqrt())


class FlowDenoiser:
    """A rectified-flow network (SD 3, Flux): it returns the velocity noise - x0 at x = (1 - t) x0 + t noise.

    network: `network(x, t[B] float, **conditioning) -> [B, ...]`, called at sigma * timesteps. shift: of the schedule,
    sigma = shift u / (1 + (shift - 1) u) for u = t / timesteps (Esser et al. 2024, eq. 23); it moves `sigmas` and the
    schedules made from them, not what the network sees. Raises ValueError for a shift that is not positive.
    """

    def __init__(self, network: Callable[..., torch.Tensor], shift: float = 1.0, timesteps: int = 1000):
        if shift <= 0:
            raise ValueError(f"shift is {shift}; expected a positive number")
        self.network, self.shift, self.timesteps = network, shift, timesteps
        self.sigmas = self.t_to_sigma(torch.arange(1, timesteps + 1))

    @property
    def sigma_min(self) -> float:
        return float(self.sigmas[0])

    @property
    def sigma_max(self) -> float:
        return float(self.sigmas[-1])

    def t_to_sigma(self, t: torch.Tensor | float) -> torch.Tensor:
        """Schedule time in [0, timesteps] to sigma in [0, 1]."""
        u = torch.as_tensor(t, dtype=torch.float32) / self.timesteps
        return self.shift * u / (1 + (self.shift - 1) * u)

    def sigma_to_t(self, sigma: torch.Tensor | float) -> torch.Tensor:
        """The inverse of `t_to_sigma`."""
        sigma = torch.as_tensor(sigma, dtype=torch.float32)
        return self.timesteps * sigma / (self.shift - (self.shift - 1) * sigma)

    def noise_scaling(self, sigma, noise: torch.Tensor, x0: torch.Tensor, max_denoise: bool = False) -> torch.Tensor:
        """x at `sigma`: (1 - sigma) x0 + sigma noise. `max_denoise` changes nothing here: at 1, x is noise."""
        sigma = _per_image(sigma, noise)
        return (1 - sigma) * x0 + sigma * noise

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, **conditioning) -> torch.Tensor:
        t = torch.as_tensor(sigma, dtype=torch.float32, device=x.device).expand(x.shape[0]) * self.timesteps
        velocity = self.network(x, t, **conditioning).to(x.dtype)
        return x - _per_image(sigma, x) * velocity

    def prediction_at(self, x: torch.Tensor, sigma: torch.Tensor, **conditioning) -> Prediction:
        """The model's x0, noise and velocity at x: one evaluation."""
        x0 = self(x, sigma, **conditioning)
        velocity = (x - x0) / _per_image(sigma, x)
        return Prediction(x0, velocity + x0, velocity)


class _Wrapper:
    """Everything but the call is the wrapped model's."""

    def __init__(self, model: Callable[..., torch.Tensor]):
        self.model = model

    def __getattr__(self, name):
        # `model` itself is looked up here only while a copy is being made, before it is set.
        if name == "model":
            raise AttributeError(name)
        return getattr(self.model, name)


class Guided(_Wrapper):
    """Classifier-free guidance: uncond + cfg (cond - uncond) of the denoised images (Ho and Salimans 2022, eq. 6).

    Called with `cond` and `uncond`, dicts of conditioning tensors for `model`, normally as a sampler's `extra_args`.
    Both branches run in one batch where their tensors have the same shapes and one row for each image, else one after
    the other. cfg = 1 spends one evaluation and needs no `uncond`; another cfg without it raises ValueError.
    """

    def __init__(self, model: Callable[..., torch.Tensor], cfg: float):
        super().__init__(model)
        self.cfg = cfg

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, cond: dict, uncond: dict | None = None) -> torch.Tensor:
        if self.cfg == 1:
            return self.model(x, sigma, **cond)
        if uncond is None:
            raise ValueError(f"cfg is {self.cfg}, which needs the unconditional branch: give `uncond`, or set cfg to 1")
        both = _joined(uncond, cond, x.shape[0])
        if both is None:
            negative, positive = self.model(x, sigma, **uncond), self.model(x, sigma, **cond)
        else:
            sigma = torch.as_tensor(sigma, device=x.device).expand(x.shape[0])
            negative, positive = self.model(torch.cat([x, x]), torch.cat([sigma, sigma]), **both).chunk(2)
        return negative + self.cfg * (positive - negative)


class Counted(_Wrapper):
    """Counts the evaluations of a network or denoiser: one for each row of each batch that it is given.

    It goes inside guidance, `Guided(Counted(model), cfg)`, so that a guided step counts as two; around it, it would
    count one, and raises TypeError. Other attributes are the model's.
    """

    def __init__(self, model: Callable[..., torch.Tensor]):
        if isinstance(model, Guided):
            raise TypeError("Counted goes inside guidance, Guided(Counted(model), cfg), to count both branches")
        super().__init__(model)
        self.evaluations = 0

    def __call__(self, x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        self.evaluations += x.shape[0]
        return self.model(x, *args, **kwargs)

    def per_image(self, images: int) -> int:
        """Evaluations so far for each of `images` images. Raises ValueError if they cannot all have had the same."""
        if images < 1 or self.evaluations % images:
            raise ValueError(f"{self.evaluations} evaluations cannot be shared equally by {images} images")
        return self.evaluations // images

    def reset(self) -> None:
        self.evaluations = 0


def scaled_linear(start: float = 0.00085, end: float = 0.012, timesteps: int = 1000) -> torch.Tensor:
    """alphas_cumprod [timesteps], float64, of Stable Diffusion's schedule: betas linear in their square roots."""
    betas = torch.linspace(start**0.5, end**0.5, timesteps, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0)


def _per_image(sigma, x: torch.Tensor) -> torch.Tensor:
    sigma = torch.as_tensor(sigma, device=x.device, dtype=x.dtype)
    return sigma.reshape(sigma.shape + (1,) * (x.ndim - 1)) if sigma.ndim else sigma


def _joined(first: dict, second: dict, batch: int) -> dict | None:
    if first.keys() != second.keys():
        return None
    for key in first:
        if first[key].shape != second[key].shape or first[key].shape[:1] != (batch,):
            return None
    return {key: torch.cat([first[key], second[key]]) for key in first}
