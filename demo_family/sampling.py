"""Sample the demo networks with the pack's own samplers."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..samplers.consistency import sample_consistency
from ..samplers.denoisers import Counted, DiscreteDenoiser, Guided, scaled_linear
from ..samplers.schedules import consistency_sigmas
from ..samplers.solvers import sample_dpmpp_2m


def denoiser(network: nn.Module) -> DiscreteDenoiser:
    """A demo network as a k-diffusion denoiser; conditioning is ``tokens`` [B, 8]."""
    return DiscreteDenoiser(network, scaled_linear(), prediction="v")


def start(model: DiscreteDenoiser, noise: Tensor, sigmas: Tensor) -> Tensor:
    """The picture of pure noise [B, 8, 8, 8] at which a schedule starts."""
    return model.noise_scaling(sigmas[0], noise, torch.zeros_like(noise), max_denoise=True)


def sample_student(
    model: DiscreteDenoiser | Counted, noise: Tensor, tokens: Tensor, steps: int, noise_sampler: Callable | None = None
) -> Tensor:
    """Latents [B, 8, 8, 8] by stochastic multistep consistency sampling; each step is one evaluation."""
    sigmas = consistency_sigmas(model, steps).to(noise.device)
    x = start(model, noise, sigmas)
    return sample_consistency(model, x, sigmas, {"tokens": tokens}, noise_sampler=noise_sampler)


def sample_teacher(model: DiscreteDenoiser | Counted, x: Tensor, tokens: Tensor, sigmas: Tensor, cfg: float) -> Tensor:
    """Latents [B, 8, 8, 8] from x at sigmas[0] by DPM-Solver++ 2M; a guided step is two evaluations."""
    arguments = {"cond": {"tokens": tokens}, "uncond": {"tokens": torch.zeros_like(tokens)}}
    return sample_dpmpp_2m(Guided(model, cfg), x, sigmas.to(x.device), arguments)
