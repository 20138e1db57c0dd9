"""Distances between a student's prediction and its target: means over the batch, differentiable in the first."""

import torch
from torch import Tensor


def l2(prediction: Tensor, target: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Mean of weight |a - b|^2; weight: one number, or [B, 1, 1, 1]."""
    return (weight * (prediction - target).square()).mean()


def pseudo_huber(prediction: Tensor, target: Tensor, c: float) -> Tensor:
    """Mean of sqrt((a - b)^2 + c^2) - c, value by value, as latent consistency models are trained."""
    return (((prediction - target).square() + c**2).sqrt() - c).mean()


def pseudo_huber_norm(prediction: Tensor, target: Tensor, c: float, weight: Tensor | float = 1.0) -> Tensor:
    """Mean of sqrt(|a - b|^2 + c^2) - c with the norm of each whole sample (Song and Dhariwal 2023, eq. 11)."""
    squared = (prediction - target).square().flatten(1).sum(dim=1)
    weight = torch.as_tensor(weight, device=squared.device, dtype=squared.dtype).reshape(-1)
    return (weight * ((squared + c**2).sqrt() - c)).mean()
