"""The networks: what a picture means, how a student's picture is to move towards it, and a prior of meanings."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..files import CheckpointError
from ..samplers.latent_prior import draw, image_starts

SIDE = 4  # of the map that becomes z, whatever the picture's size
HEADS = 4
RATES = 64  # sines and cosines of a time
LEAST_WIDTH = 8
PRIOR_WIDTH, PRIOR_LAYERS = 4, 10  # hidden width in widths of z; hidden layers
MODES = ("gradient", "shift")
WEAK_SIGNAL = 0.05  # alpha, below which sigma^2 / alpha would blow up what the branch says


class Features(NamedTuple):
    """What a UNet's encoder hands to its decoder: ``middle`` [B, C, h, w] and ``skips``, the first one first."""

    middle: Tensor
    skips: Sequence[Tensor]

    @property
    def channels(self) -> tuple[int, list[int]]:
        return self.middle.shape[1], [skip.shape[1] for skip in self.skips]


@dataclass(frozen=True)
class Layout:
    """How the networks are built; a file's metadata holds it as JSON.

    channels: of the latents. middle, skips: channels of the student's features. latent: width of z. encoder: widths of
    the encoder's convolutions, each of which halves the side. mode: "gradient", where the branch says G and x0 moves by
    ``(sigma^2 / alpha) G``, or "shift", where it says that product. text: width of the pooled text that the prior is
    told, 0 for a prior without; None where there is no prior.
    """

    channels: int
    middle: int
    skips: tuple[int, ...]
    latent: int
    encoder: tuple[int, ...]
    mode: str = "gradient"
    text: int | None = None

    def require(self, channels: int, middle: int, skips: Sequence[int], name: str) -> None:
        """Raises CheckpointError, with the file's ``name``, unless it is for a network of these widths."""
        given, own = (channels, middle, tuple(skips)), (self.channels, self.middle, self.skips)
        if given != own:
            raise CheckpointError(
                f"{name} is for a network of {_widths(*own)}; the student has {_widths(*given)}: name the student's own"
            )

    @classmethod
    def of(cls, channels: int, middle: int, skips: Sequence[int], side: int, mode: str) -> "Layout":
        """The default for features of these widths and latents of ``side``: z is a quarter of the middle.

        The encoder is the published one, 64 to 256 channels wide, with as many convolutions as lead to a side of 4.
        """
        halvings = max(1, round(math.log2(side / SIDE)))
        widths = tuple(min(64 * 2**k, 256) for k in range(halvings))
        return cls(channels, middle, tuple(skips), _quarter(middle), widths, mode)


class Predictor(nn.Module):
    """E, G's branch and, where there is one, the prior with the mean and deviation of z.

    Zero-initialised: as made, it moves nothing. ``about``: the metadata of the file that it was read from.
    """

    def __init__(self, layout: Layout):
        super().__init__()
        self.encoder, self.branch = Encoder(layout), Branch(layout)
        self.register_buffer("mean", torch.zeros(layout.latent))
        self.register_buffer("deviation", torch.ones(layout.latent))
        self.layout, self.prior, self.about = layout, None, {}
        if layout.text is not None:
            self.add_prior(layout.text)

    def add_prior(self, text: int) -> "Prior":
        """An untrained prior, told a pooled text of this width; 0 for none."""
        self.layout = replace(self.layout, text=text)
        self.prior = Prior(self.layout)
        return self.prior

    def forward(self, picture: Tensor, features: Features, t: Tensor) -> Tensor:
        """What the branch says for z of ``picture`` [B, C, h, w]; features of B rows, or of B for each branch."""
        return self.branch(features, t, rows_of(self.encoder(picture), len(t)))

    def coefficient(self, alpha: Tensor, sigma: Tensor) -> Tensor | float:
        """By what the branch's answer is multiplied at the student's own t: sigma_t^2 / alpha_t, or 1."""
        return sigma.square() / alpha if self.layout.mode == "gradient" else 1.0

    def meaning(self, picture: Tensor) -> Tensor:
        """z [B, D] of pictures' latents, as the UNet sees them."""
        return self.encoder(picture.float())

    @torch.no_grad()
    def drawn(self, noise: Tensor, text: Tensor | None) -> Tensor:
        """z [B, D] from the prior for images that start from ``noise`` [B, ...], each by its own noise alone.

        text [B, P] or [1, P]: the pooled prompts; not read by a prior without. On the prior's own device. Raises
        ValueError without a prior, or for a text of another width.
        """
        if self.prior is None:
            raise ValueError("this predictor has no prior: train one with sferd-prior, or give a picture")
        device, width = self.mean.device, self.layout.text
        if width:
            if text is None or text.shape[-1] != width:
                given = "none" if text is None else f"one of {text.shape[-1]}"
                raise ValueError(f"the predictor's prior is told a pooled text of {width} numbers; there is {given}")
            text = rows_of(text.to(device).float(), len(noise))
        start = image_starts(noise, self.layout.latent).to(device)
        z = draw(lambda z, n: self.prior(z, n, text if width else None), start)
        return z * self.deviation + self.mean


class Encoder(nn.Module):
    """x0 [B, C, h, w] to z [B, D]: convolutions that halve the side, attention on 4x4 places, one linear layer."""

    def __init__(self, layout: Layout):
        super().__init__()
        widths = layout.encoder
        self.blocks = nn.ModuleList()
        for before, width in zip((layout.channels, *widths[:-1]), widths, strict=True):
            self.blocks.append(nn.Sequential(nn.Conv2d(before, width, 3, stride=2, padding=1), _norm(width), nn.SiLU()))
        self.norm, self.qkv = _norm(widths[-1]), nn.Linear(widths[-1], 3 * widths[-1])
        self.merge = nn.Linear(widths[-1], widths[-1])
        self.out = nn.Linear(widths[-1] * SIDE**2, layout.latent)

    def forward(self, x0: Tensor) -> Tensor:
        h = x0
        for block in self.blocks:
            h = block(h)
        h = F.adaptive_avg_pool2d(h, SIDE)
        places = h.flatten(2).transpose(1, 2)
        q, k, v = (
            part.unflatten(2, (HEADS, -1)).transpose(1, 2)
            for part in self.qkv(self.norm(h).flatten(2).transpose(1, 2)).chunk(3, dim=2)
        )
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.out((places + self.merge(attended)).flatten(1))


class Branch(nn.Module):
    """A decoder on a frozen UNet's encoder: its features, t and z to what moves x0 [B, C, h, w].

    A residual block for the middle and one for each skip, a quarter as wide as the student's own. It has no attention
    and reads no text, as its features come from what does.
    """

    def __init__(self, layout: Layout):
        super().__init__()
        width = _quarter(layout.middle)
        told = 4 * _quarter(layout.skips[0])
        self.time = nn.Sequential(nn.Linear(RATES, told), nn.SiLU(), nn.Linear(told, told), nn.SiLU())
        self.meaning = nn.Sequential(nn.Linear(layout.latent, told), nn.SiLU())
        self.into, self.middle = nn.Conv2d(layout.middle, width, 1), Block(width, width, told)
        self.skips, self.blocks = nn.ModuleList(), nn.ModuleList()
        for channels in reversed(layout.skips):
            own = _quarter(channels)
            self.skips.append(nn.Conv2d(channels, own, 1))
            self.blocks.append(Block(width + own, own, told))
            width = own
        self.norm, self.out = _norm(width), nn.Conv2d(width, layout.channels, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Features, t: Tensor, z: Tensor) -> Tensor:
        time, meaning = self.time(waves(t)), self.meaning(z.float())
        h = self.middle(self.into(features.middle.float()), time, meaning)
        for skip, project, block in zip(reversed(features.skips), self.skips, self.blocks, strict=True):
            if h.shape[-2:] != skip.shape[-2:]:
                h = F.interpolate(h, size=skip.shape[-2:], mode="nearest")
            h = block(torch.cat([h, project(skip.float())], dim=1), time, meaning)
        return self.out(F.silu(self.norm(h)))


class Block(nn.Module):
    """A residual block under ``(1 + z_scale) (GN(h) (1 + t_scale) + t_shift) + z_shift``."""

    def __init__(self, channels: int, width: int, told: int):
        super().__init__()
        self.norm1, self.conv1 = _norm(channels), nn.Conv2d(channels, width, 3, padding=1)
        self.time, self.meaning = nn.Linear(told, 2 * width), nn.Linear(told, 2 * width)
        self.norm2, self.conv2 = _norm(width), nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, width, 1) if channels != width else nn.Identity()

    def forward(self, x: Tensor, time: Tensor, meaning: Tensor) -> Tensor:
        t_scale, t_shift = self.time(time)[:, :, None, None].chunk(2, dim=1)
        z_scale, z_shift = self.meaning(meaning)[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        h = (1 + z_scale) * (h * (1 + t_scale) + t_shift) + z_shift
        return self.shortcut(x) + self.conv2(F.silu(h))


class Prior(nn.Module):
    """The noise in a normalised z [B, D] at steps n [B] of its process, for pooled texts [B, P] or none.

    Every hidden layer reads z again. A text that is left out, or of rows where ``told`` [B] is false, is a vector of
    its own.
    """

    def __init__(self, layout: Layout):
        super().__init__()
        width = PRIOR_WIDTH * layout.latent
        self.time = nn.Sequential(nn.Linear(RATES, width), nn.SiLU(), nn.Linear(width, width))
        self.text = nn.Sequential(nn.LayerNorm(layout.text), nn.Linear(layout.text, width)) if layout.text else None
        self.nothing = nn.Parameter(torch.zeros(width)) if layout.text else None
        inputs = [layout.latent, *[width + layout.latent] * (PRIOR_LAYERS - 1)]
        self.layers = nn.ModuleList(nn.Linear(n, width) for n in inputs)
        self.scales = nn.ModuleList(nn.Linear(width, width) for _ in inputs)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in inputs)
        self.out = nn.Linear(width + layout.latent, layout.latent)

    def forward(self, z: Tensor, n: Tensor, text: Tensor | None = None, told: Tensor | None = None) -> Tensor:
        state = self.time(waves(n))
        if self.text is not None:
            said = self.nothing.expand_as(state) if text is None else self.text(text)
            state = state + (said if told is None else torch.where(told[:, None], said, self.nothing))
        state, h = F.silu(state), z
        for at, (layer, scale, norm) in enumerate(zip(self.layers, self.scales, self.norms, strict=True)):
            h = layer(torch.cat([h, z], dim=1) if at else h)
            h = F.silu(norm(h * (1 + scale(state))))
        return self.out(torch.cat([h, z], dim=1))


def waves(t: Tensor) -> Tensor:
    """[B, RATES]: cosines and sines of times [B] from 0 to 1000."""
    rates = torch.exp(torch.arange(RATES // 2, device=t.device) * (-math.log(10000.0) / (RATES // 2)))
    angles = t.float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def rows_of(values: Tensor, count: int) -> Tensor:
    """``values`` [B, ...] for ``count`` rows: those of B images, once for each branch of guidance.

    Raises ValueError for a count that is no multiple of B.
    """
    if count % len(values):
        raise ValueError(f"{count} rows for {len(values)} images; expected as many rows for each")
    return values.repeat(count // len(values), *[1] * (values.ndim - 1))


def _widths(channels: int, middle: int, skips: Sequence[int]) -> str:
    return f"{channels} channels, {middle} in the middle and skips of {', '.join(map(str, skips))}"


def _quarter(channels: int) -> int:
    return max(LEAST_WIDTH, channels // 4)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(channels, 8), channels)
