"""A student under its predictor, as the pack's samplers call it, and where its encoder's features are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .networks import Features, Predictor, rows_of

UNTIL = 0.7  # the published code leaves the last 30 % of the steps alone


def switched_off_at(sigmas: Tensor, until: float) -> float:
    """The noise level from which on a predictor no longer acts, for a schedule [n + 1] of which it has a part.

    until: in (0, 1]. The first step always has it: so the only one of a one-step student, too.
    """
    if not 0 < until <= 1:
        raise ValueError(f"until is {until:g}; expected above 0 and at most 1")
    return float(sigmas[min(math.ceil(until * (len(sigmas) - 1) - 1e-6), len(sigmas) - 1)])


def acts_at(sigma: float, off: float) -> bool:
    """Whether it still acts at a level, for what :func:`switched_off_at` says."""
    return sigma > off * (1 + 1e-4)


class Collected:
    """What one pass through a UNet showed of its encoder, and the times [B] or [] that it was told."""

    def __init__(self):
        self.t: Tensor | None = None
        self.middle: Tensor | None = None
        self.skips: list[Tensor] = []

    @property
    def features(self) -> Features:
        return Features(self.middle, self.skips)

    def add(self, hidden: Tensor, skips: list[Tensor]) -> None:
        """What a block of the decoder is given; the decoder takes the last skips first."""
        if self.middle is None:
            self.middle = hidden
        self.skips = [*skips, *self.skips]


@contextmanager
def reading_features(network: nn.Module) -> Iterator[Collected]:
    """Within, one pass through a diffusers UNet, or a network that holds it as ``unet``, leaves its features here."""
    collected, unet = Collected(), unet_of(network)

    def hear(unet, arguments, given):
        collected.t = given["timestep"] if "timestep" in given else arguments[1]

    def read(block, arguments, given):
        collected.add(given["hidden_states"], list(given["res_hidden_states_tuple"]))

    handles = [unet.register_forward_pre_hook(hear, with_kwargs=True)]
    handles += [block.register_forward_pre_hook(read, with_kwargs=True) for block in unet.up_blocks]
    try:
        yield collected
    finally:
        for handle in handles:
            handle.remove()


def unet_of(network: nn.Module) -> nn.Module:
    """The diffusers UNet in a network. Raises ValueError, with its name, for a network without a decoder of skips."""
    unet = getattr(network, "unet", network)
    if not hasattr(unet, "down_blocks") or not hasattr(unet, "up_blocks"):
        raise ValueError(f"{type(unet).__name__} is no UNet: a gradient predictor needs an encoder with skips")
    return unet


def feature_channels(network: nn.Module) -> tuple[int, list[int]]:
    """Channels of the middle and of each skip of a diffusers UNet."""
    config = unet_of(network).config
    widths, layers = config.block_out_channels, config.layers_per_block
    skips = [widths[0]]
    for width in widths[:-1]:
        skips += [width] * (layers + 1)
    return widths[-1], skips + [widths[-1]] * layers


def pooled_text(network: nn.Module, given: dict[str, Tensor]) -> Tensor:
    """[B, P], of a network's conditioning: the pooled text where it has one, else the mean over its tokens."""
    if "tokens" in given:  # the demo family's
        return network.text(given["tokens"]).flatten(1).float()
    return given["pooled"].float() if "pooled" in given else given["context"].float().mean(1)


class Predicted:
    """A denoiser whose x0 a predictor moves, while its part of the schedule lasts; all else is the denoiser's.

    model: of the student ``network``, in discrete time's variance-exploding scale or, in "shift" mode, in any other.
    z [B, D]: of the images, which under guidance come once for each branch.
    """

    def __init__(
        self,
        model: Callable[..., Tensor],
        predictor: Predictor,
        network: nn.Module,
        z: Tensor,
        sigmas: Tensor,
        until: float = UNTIL,
    ):
        self.model, self.predictor, self.network, self.z = model, predictor, network, z
        self.off = switched_off_at(sigmas, until)

    def __getattr__(self, name):
        if name == "model":  # while a copy is being made
            raise AttributeError(name)
        return getattr(self.model, name)

    def __call__(self, x: Tensor, sigma: Tensor, **conditioning) -> Tensor:
        sigma = torch.as_tensor(sigma, device=x.device).expand(len(x))
        if not acts_at(float(sigma[0]), self.off):
            return self.model(x, sigma, **conditioning)
        with reading_features(self.network) as seen:
            x0 = self.model(x, sigma, **conditioning)
        return x0 + moved(self.predictor, seen.features, seen.t, self.z, sigma)


def moved(predictor: Predictor, features: Features, t: Tensor, z: Tensor, sigma: Tensor) -> Tensor:
    """By how much x0 moves [B, C, h, w] at times t [B], as the network is told them, and levels sigma [B].

    The levels are in the variance-exploding scale; in "shift" mode they do not count.
    """
    sigma = sigma.float().view(-1, 1, 1, 1)
    alpha = (1 + sigma.square()).rsqrt()
    said = predictor.branch(features, t.to(z.device), rows_of(z, len(t)))
    return predictor.coefficient(alpha, sigma * alpha) * said
