"""Diffusion processes: ``z_t = alpha_t x0 + sigma_t eps``, what a network at z_t is told and what its output says.

Times are a process's own: whole timesteps of a discrete one, of which -1 is the data; of a flow the noise level s in
[0, 1] itself. Methods take them from :meth:`Process.grid` and :meth:`Process.times` and hand them back.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..samplers.boundary import boundary_scalings
from ..samplers.denoisers import DiscreteDenoiser, FlowDenoiser
from .config import SIZED

NO_SIGNAL = 1e-6  # alpha_bar of a last timestep with zero SNR is below it, and of the usual schedules far above
TIMESTEPS = 1000  # of a flow's network, which is told 1000 s

Network = Callable[..., Tensor]  # (x, t [B], **conditioning) -> output


class Level(NamedTuple):
    """alpha and sigma of some noisy latents, each [B, 1, ...] with the latents' dimensions."""

    alpha: Tensor
    sigma: Tensor

    def noisy(self, x0: Tensor, eps: Tensor) -> Tensor:
        """z, of x0's shape. With a model's own x0 and eps at another level this is a DDIM or Euler step to here."""
        return self.alpha * x0 + self.sigma * eps

    @property
    def snr(self) -> Tensor:
        """Signal-to-noise ratio alpha^2 / sigma^2, infinite for clean latents."""
        return (self.alpha / self.sigma).square()


class Process(ABC):
    """prediction: what the network's output is. zero_snr: whether the last time is noise alone, or all but."""

    prediction: str
    zero_snr: bool
    timesteps: int  # most intervals of `grid`
    device: torch.device
    spacings: tuple[str, ...] = ("trailing",)  # of `grid`

    @abstractmethod
    def level(self, t: Tensor, dimensions: int = 4) -> Level:
        """The level of times t [B], for latents of so many dimensions."""

    @abstractmethod
    def network_time(self, t: Tensor) -> Tensor:
        """What the network is told at times t [B]; at the data what it is told nearest to it."""

    @abstractmethod
    def x0_and_eps(self, output: Tensor, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """What the network's output at z, t says about the data and the noise, each of z's shape."""

    @abstractmethod
    def output(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """What a network that knew x0 and eps would return: :meth:`x0_and_eps` the other way round."""

    @abstractmethod
    def times(self, places: Tensor, size: Sequence[int] = ()) -> Tensor:
        """Times at places in [0, 1] of the schedule, 0 being the data: those of the sampler ``sgm_uniform``.

        size: height and width of the latents, for a schedule that depends on it.
        """

    @abstractmethod
    def grid(self, intervals: int, spacing: str = "trailing", size: Sequence[int] = ()) -> Tensor:
        """The rising times [intervals + 1] on which a consistency student is distilled, the data's end first.

        ``leading`` has the first ``intervals`` only. Raises ValueError for a number that does not fit.
        """

    @abstractmethod
    def sigmas(self, t: Tensor) -> Tensor:
        """The noise levels of times t in the samplers' scale; 0 for the data."""

    @abstractmethod
    def denoiser(self, network: Network, size: Sequence[int] = ()):
        """A network of this process for the pack's samplers; size: as `times` has it."""

    @abstractmethod
    def to(self, device: torch.device | str) -> "Process":
        """The process on the device of the times and latents that it is asked about."""

    def with_clean_end(self) -> "Process":
        """The process with its first times counted as the data, so that x0 there is z without c_skip and c_out."""
        return self

    def boundary(self, t: Tensor, dimensions: int, timestep_scaling: float) -> tuple[Tensor | float, Tensor | float]:
        """(c_skip, c_out) with which ``c_skip z + c_out x0`` is the identity at the data's end."""
        return 0.0, 1.0

    @property
    def plan(self) -> tuple:
        """What samples of a teacher follow from, beside its weights."""
        return (self.prediction,)


class Discrete(Process):
    """Whole timesteps -1, the data, to T - 1; alpha^2 + sigma^2 = 1 (Ho et al. 2020).

    alphas_cumprod: [T], falling. prediction: "epsilon", "v_prediction" with v = alpha eps - sigma x0, or "sample".
    Timesteps up to ``clean_until`` count as the data. Raises ValueError for another prediction.
    """

    PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}  # diffusers' word to the samplers'
    spacings = ("trailing", "leading")

    def __init__(self, alphas_cumprod: Tensor, prediction: str = "epsilon", clean_until: int = -1):
        if prediction not in self.PREDICTIONS:
            raise ValueError(f"prediction is {prediction!r}; expected one of {', '.join(self.PREDICTIONS)}")
        self.alphas_cumprod, self.prediction, self.clean_until = alphas_cumprod.float(), prediction, clean_until

    @property
    def timesteps(self) -> int:
        return len(self.alphas_cumprod)

    @property
    def device(self) -> torch.device:
        return self.alphas_cumprod.device

    def to(self, device: torch.device | str) -> "Discrete":
        return Discrete(self.alphas_cumprod.to(device), self.prediction, self.clean_until)

    @property
    def zero_snr(self) -> bool:
        return bool(self.alphas_cumprod[-1] < NO_SIGNAL)

    @property
    def plan(self) -> tuple:
        return self.prediction, float(self.alphas_cumprod[-1])

    def level(self, t: Tensor, dimensions: int = 4) -> Level:
        squared = self.alphas_cumprod[t.clamp(min=0)]
        squared = torch.where(t <= self.clean_until, 1.0, squared).view(-1, *[1] * (dimensions - 1))
        return Level(squared.sqrt(), (1 - squared).sqrt())

    def network_time(self, t: Tensor) -> Tensor:
        return t.clamp(min=0)

    def x0_and_eps(self, output: Tensor, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self.level(t, z.ndim)
        if self.prediction == "epsilon":
            return (z - sigma * output) / alpha, output
        if self.prediction == "v_prediction":
            return alpha * z - sigma * output, sigma * z + alpha * output
        return output, (z - alpha * output) / sigma

    def output(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self.level(t, x0.ndim)
        return {"epsilon": eps, "v_prediction": alpha * eps - sigma * x0, "sample": x0}[self.prediction]

    def times(self, places: Tensor, size: Sequence[int] = ()) -> Tensor:
        return torch.where(places > 0, (places * (self.timesteps - 1)).round().long(), -1)

    def grid(self, intervals: int, spacing: str = "trailing", size: Sequence[int] = ()) -> Tensor:
        """-1, 19, ... 999 for 50 intervals, or with leading spacing 1, 21, ... 981."""
        if intervals > self.timesteps or self.timesteps % intervals:
            raise ValueError(f"{intervals} intervals; expected a divisor of {self.timesteps}")
        stride = self.timesteps // intervals
        if spacing == "leading":
            return torch.arange(intervals, device=self.device) * stride + 1
        return torch.arange(intervals + 1, device=self.device) * stride - 1

    def sigmas(self, t: Tensor) -> Tensor:
        squared = self.alphas_cumprod.cpu().double()[t.clamp(min=0).cpu()]
        return torch.where(t.cpu() < 0, 0.0, ((1 - squared) / squared).sqrt()).float()

    def denoiser(self, network: Network, size: Sequence[int] = ()) -> DiscreteDenoiser:
        return DiscreteDenoiser(network, self.alphas_cumprod.cpu(), self.PREDICTIONS[self.prediction])

    def with_clean_end(self) -> "Discrete":
        """alpha_bar := 1 at t <= 1, as for the adaptive paper's student. ValueError for a prediction of x0."""
        if self.prediction == "sample":
            raise ValueError("f(x_1, 1) is not x_1 for a network that predicts x0")
        return Discrete(self.alphas_cumprod, self.prediction, clean_until=1)

    def boundary(self, t: Tensor, dimensions: int, timestep_scaling: float) -> tuple[Tensor, Tensor]:
        """Latent consistency models' (Luo et al. 2023); (1, 0) at t = 0."""
        return boundary_scalings(t, dimensions, timestep_scaling)


class Flow(Process):
    """``z = (1 - s) x0 + s eps`` and a network that is told 1000 s and returns v = eps - x0 (Esser et al. 2024).

    shift: of the schedule, s = shift u / (1 + (shift - 1) u) at place u, a number or how it follows from the height and
    width of the latents. Clean latents are their own boundary, as x0 = z - s v. Raises ValueError for a shift that is
    not positive.
    """

    prediction, zero_snr, timesteps = "flow", True, TIMESTEPS

    def __init__(self, shift: float | Callable[[int, int], float] = 1.0, device: torch.device | str = "cpu"):
        if not callable(shift) and shift <= 0:
            raise ValueError(f"shift is {shift}; expected a positive number")
        self.shift, self.device = shift, torch.device(device)

    def to(self, device: torch.device | str) -> "Flow":
        return Flow(self.shift, device)

    @property
    def plan(self) -> tuple:
        return self.prediction, SIZED if callable(self.shift) else self.shift

    def level(self, t: Tensor, dimensions: int = 4) -> Level:
        s = t.float().view(-1, *[1] * (dimensions - 1))
        return Level(1 - s, s)

    def network_time(self, t: Tensor) -> Tensor:
        return t * TIMESTEPS

    def x0_and_eps(self, output: Tensor, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self.level(t, z.ndim)
        return z - sigma * output, z + alpha * output

    def output(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        return eps - x0

    def times(self, places: Tensor, size: Sequence[int] = ()) -> Tensor:
        shift = self.shift_at(size)
        return shift * places / (1 + (shift - 1) * places)

    def shift_at(self, size: Sequence[int]) -> float:
        """The shift for latents of this height and width."""
        return self.shift(*size) if callable(self.shift) else self.shift

    def grid(self, intervals: int, spacing: str = "trailing", size: Sequence[int] = ()) -> Tensor:
        if spacing not in self.spacings:
            raise ValueError(f"spacing is {spacing!r}; a flow's grid is trailing, as its end is the data itself")
        return self.times(torch.arange(intervals + 1, device=self.device) / intervals, size)

    def sigmas(self, t: Tensor) -> Tensor:
        return t.float().cpu()

    def denoiser(self, network: Network, size: Sequence[int] = ()) -> FlowDenoiser:
        return FlowDenoiser(network, self.shift_at(size))


def solve(denoise: Callable, process: Process, z: Tensor, times: list[Tensor]) -> Tensor:
    """z [B, ...] carried by DDIM through ``times`` [B] each, the first being where z is (Song et al. 2020, eq. 12).

    denoise: ``(z, t) -> (x0, eps)``. Of a flow this is Euler's method.
    """
    for t, s in zip(times[:-1], times[1:], strict=True):
        z = process.level(s, z.ndim).noisy(*denoise(z, t))
    return z
