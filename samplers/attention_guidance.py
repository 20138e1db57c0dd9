"""Attention guidance: what SFERD's teacher (AAAI 2024) and self-attention guidance share, in the space of x0.

Where a branch b of the network looks most, its picture is blurred, ``x_bar``, put back to the noise level with the
branch's own noise, ``z~ = z + alpha (x_bar - x0_b)``, and predicted once more. The step away from that prediction is
``x0_g = x0 + w (x_bar - x0_b(z~))``, finite also where alpha is 0; without other guidance its noise is
``eps_b(z~) + (1 + w) (eps - eps_b(z~))``. b is the branch without a prompt where there are two, else the only one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

MARGIN = 1e-4  # uniform attention sums to 1 at every place, up to rounding
KERNEL, SIGMA, SIDE = 9, 2.0, 64  # of the blur in places of a latent, and the latent's shorter side that they are for
SCORES = 2**21  # of one image's attention that are in memory at a time


def column_sums(q: Tensor, k: Tensor, heads: int) -> Tensor:
    """How much attention each place receives: the map's mean over heads, summed over queries. [B, N] in float32.

    q, k: [B, N, heads * d], as the attention's projections give them. The mean over the places is 1. Queries are taken
    in parts that do not depend on the batch, so that the map need not be in memory as a whole.
    """
    places = k.shape[1]
    with torch.autocast(q.device.type, enabled=False):
        q, k = (each.float().unflatten(-1, (heads, -1)).transpose(1, 2) for each in (q, k))
        keys = k.transpose(-1, -2) * k.shape[-1] ** -0.5
        parts = q.split(max(1, SCORES // (heads * places)), dim=2)
        return sum((part @ keys).softmax(dim=-1).mean(dim=1).sum(dim=1) for part in parts)


def attention_mask(sums: Tensor, height: int, width: int) -> Tensor:
    """Whether a place receives more than its share, by more than ``MARGIN``: bool [B, 1, height, width].

    sums: [B, N] of a level of a UNet, to which the latent's sides were halved, rounded up. Raises ValueError where N
    is the number of places of none.
    """
    rows, columns = height, width
    while rows * columns > sums.shape[1]:
        rows, columns = (rows + 1) // 2, (columns + 1) // 2
    if rows * columns != sums.shape[1]:
        raise ValueError(
            f"self-attention over {sums.shape[1]} places; a UNet has no such level for latents of {height}x{width}, "
            "unless something cuts or merges places"
        )
    seen = (sums > 1 + MARGIN).view(-1, 1, rows, columns)
    return F.interpolate(seen.float(), (height, width)) > 0


def blur(x: Tensor, kernel: int, sigma: float) -> Tensor:
    """x [B, C, H, W] under a Gaussian of so many places, reflected at the edges.

    kernel: odd. Raises ValueError where half of it does not fit into a side.
    """
    half = kernel // 2
    if half >= min(x.shape[-2:]):
        raise ValueError(f"a blur over {kernel} places needs sides of at least {half + 1}; got {tuple(x.shape[-2:])}")
    weights = torch.exp(-0.5 * (torch.arange(-half, half + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).tolist()
    padded = F.pad(x, (half,) * 4, mode="reflect")
    for dim in (2, 3):  # sums instead of a convolution, which autocast would take in half precision
        padded = sum(weight * padded.narrow(dim, i, x.shape[dim]) for i, weight in enumerate(weights))
    return padded


def scaled_blur(height: int, width: int, kernel: int = KERNEL, sigma: float = SIGMA) -> tuple[int, float]:
    """(kernel, sigma) for latents of this size, as in proportion large as the given ones on a shorter side of ``SIDE``.

    The kernel is the nearest odd number, at least 3, and sigma stays the same part of it. So 9 and 2.0 on 64x64 are 17
    and 3.8 on 128x128, and 3 and 0.67 on 8x8, where 9 would be the whole picture.
    """
    nearest = 2 * round((kernel * min(height, width) / SIDE - 1) / 2) + 1
    return max(3, nearest), sigma * max(3, nearest) / kernel


def blurred_where_attended(x0: Tensor, sums: Tensor, kernel: int, sigma: float) -> Tensor:
    """x_bar: a predicted x0 [B, C, H, W], blurred under the mask of its own map's column sums [B, N]."""
    return torch.where(attention_mask(sums, *x0.shape[-2:]), blur(x0, kernel, sigma), x0)
