"""The noise around a mask that Forge adds in each step, drawn from each picture's own seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch


@contextmanager
def of_own_seeds(seeds: Sequence[int]) -> Iterator[None]:
    """Meanwhile the host's denoiser draws a batch's noise picture by picture, from generators with these seeds.

    Forge and Forge Neo draw it for the batch at once, from torch's own state, so that a picture would have another part
    of it beside others. Where the host lays the source around the mask without noise, nothing draws.
    """
    from modules import sd_samplers_cfg_denoiser as host

    whole = host.torch
    host.torch = _OwnNoise(whole, seeds)
    try:
        yield
    finally:
        host.torch = whole


class _OwnNoise:
    """The module torch, but for ``randn_like`` of a batch [B, ...] that has a seed for each picture."""

    def __init__(self, whole, seeds: Sequence[int]):
        self._whole = whole
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __getattr__(self, name: str):
        return getattr(self._whole, name)

    def randn_like(self, x: torch.Tensor, **options) -> torch.Tensor:
        if options or len(x) != len(self._generators):
            return self._whole.randn_like(x, **options)
        drawn = [torch.randn(x.shape[1:], generator=generator) for generator in self._generators]
        return torch.stack(drawn).to(x)
