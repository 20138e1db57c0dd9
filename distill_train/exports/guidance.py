"""A student that takes the guidance scale as an input, made one for a fixed scale."""

import torch

from ...pipelines.layout import GUIDANCE_INPUT as PROJECTION
from ...pipelines.stable_diffusion import guidance_embedding

WEIGHT, BIAS = "time_embedding.linear_1.weight", "time_embedding.linear_1.bias"


def takes_guidance(weights) -> bool:
    """Whether a UNet, given by diffusers' names, has the input for a guidance scale."""
    return PROJECTION in weights


def fold_guidance(weights: dict[str, torch.Tensor], cfg: float) -> dict[str, torch.Tensor]:
    """The weights of the UNet without that input which equals the given one at guidance ``cfg``; w is cfg - 1.

    Latent consistency models add a projection P of emb(w) to the sinusoidal time embedding before the time MLP
    (Luo et al. 2023, section 4.2), so for a fixed w its first layer is W (t + P emb(w)) + b = W t + (b + W P emb(w)):
    another bias. Exact but for rounding.
    """
    projection = weights[PROJECTION].double()
    embedding = guidance_embedding(torch.tensor([cfg - 1.0]), projection.shape[1])[0].double()
    bias = weights[BIAS].double() + weights[WEIGHT].double() @ (projection @ embedding)
    kept = {key: value for key, value in weights.items() if key != PROJECTION}
    return kept | {BIAS: bias.float()}
