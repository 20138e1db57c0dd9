"""The boundary condition of latent consistency models, which makes f(x, 0) = x whatever the network says."""

from __future__ import annotations

import torch

SIGMA_DATA = 0.5
TIMESTEP_SCALING = 10.0


def latent_consistency(
    x: torch.Tensor, x0: torch.Tensor, t: torch.Tensor, timestep_scaling: float = TIMESTEP_SCALING
) -> torch.Tensor:
    """f = c_skip x + c_out x0, of x's shape [B, ...]: what a latent consistency model says at x. t: [B] or [1]."""
    skip, out = boundary_scalings(t, x0.ndim, timestep_scaling)
    return skip * x + out * x0


def boundary_scalings(
    t: torch.Tensor, dimensions: int, timestep_scaling: float = TIMESTEP_SCALING
) -> tuple[torch.Tensor, torch.Tensor]:
    """(c_skip, c_out) of f = c_skip x + c_out x0 (Luo et al. 2023, and their training code); (1, 0) at t = 0.

    t: [B], timesteps in [0, T). Each is returned as [B, 1, ...] with that many dimensions.
    """
    scaled = (timestep_scaling * t.float()).view(-1, *[1] * (dimensions - 1))
    return SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2), scaled / (scaled**2 + SIGMA_DATA**2).sqrt()
