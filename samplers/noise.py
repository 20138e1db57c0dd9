"""Noise per image: every draw for an image depends on its own seed and index alone, never on its neighbours.

A *seed* is the user's, 0 to 2**64 - 1, or the negative one that torch takes for the same; an *index* is the image's
place in the full batch, which ComfyUI carries as ``latent["batch_index"]``. Any function here may be called for any
subset of a batch, in any order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch

_SEEDS = 2**64


def image_seeds(seeds: int | Sequence[int], indices: Sequence[int]) -> list[int]:
    """One 64-bit seed for each image. Index 0 keeps the seed itself, so that an image alone gets the host's own noise.

    seeds: one for all images, or one for each. Raises ValueError for seeds or indices out of range, or unequal counts.
    """
    return [seed if index == 0 else _hash(seed, index) for seed, index in _pairs(seeds, indices)]


def initial_noise(
    seeds: int | Sequence[int],
    indices: Sequence[int],
    shape: Sequence[int],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Starting noise [len(indices), *shape], as ComfyUI's `prepare_noise` makes it for `batch_index`.

    Image i of seed s is draw i of a CPU generator seeded with s, so it costs max(indices) draws of `shape`.
    shape: of one image, without the batch. Raises ValueError as `image_seeds` does.
    """
    pairs = _pairs(seeds, indices)
    wanted: dict[int, set[int]] = {}
    for seed, index in pairs:
        wanted.setdefault(seed, set()).add(index)
    drawn = {}
    for seed, chosen in wanted.items():
        generator = torch.Generator().manual_seed(seed)
        for index in range(max(chosen) + 1):
            noise = torch.randn(tuple(shape), generator=generator)
            if index in chosen:
                drawn[seed, index] = noise
    return torch.stack([drawn[pair] for pair in pairs]).to(device, dtype)


class PerImageNoise:
    """Noise sampler with one generator for each image: draw k of an image depends on its seed, its index and k alone.

    Called as in k-diffusion, `noise_sampler(sigma, sigma_next) -> [len(indices), *shape]`; white noise, so both are
    ignored. With x's device as `generator_device`, an image of index 0 gets what the host's default sampler gives an
    image alone.

    seeds, indices: as in `image_seeds`. shape: of one image, without the batch. generator_device: where the numbers are
    drawn; the CPU, the default, draws the same numbers for every `device`.
    """

    def __init__(
        self,
        seeds: int | Sequence[int],
        indices: Sequence[int],
        shape: Sequence[int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        generator_device: torch.device | str = "cpu",
    ):
        self.shape, self.device, self.dtype = tuple(shape), device, dtype
        self.generator_device = torch.device(generator_device)
        # The starting noise came from a CPU generator with the same seed; the host steps aside by one, and so do we.
        aside = 1 if self.generator_device.type == "cpu" else 0
        self.generators = [
            torch.Generator(self.generator_device).manual_seed((seed + aside) % _SEEDS)
            for seed in image_seeds(seeds, indices)
        ]

    def __call__(self, sigma=None, sigma_next=None) -> torch.Tensor:
        draws = [torch.randn(self.shape, generator=g, device=self.generator_device) for g in self.generators]
        return torch.stack(draws).to(self.device, self.dtype)


def seeded_noise(x: torch.Tensor, seed: int | None) -> PerImageNoise:
    """What a sampler draws for a whole batch x that it was given no noise sampler for; without a seed, one from torch's
    global generator."""
    seed = int(torch.randint(2**63 - 1, ())) if seed is None else seed
    return PerImageNoise(seed, range(x.shape[0]), x.shape[1:], x.device, x.dtype, x.device)


class PerImageBrownianNoise:
    """Noise sampler for the SDE samplers: increments of one Brownian tree for each image, scaled to unit variance.

    Interface and numbers are those of the host's `BrownianTreeNoiseSampler`: an image of index 0 gets what that class
    gives an image alone. Needs torchsde, which ComfyUI brings.

    x: [B, ...], for shape, device and dtype. sigma_min, sigma_max: the smallest positive and the largest sigma of the
    run. seeds, indices: as in `image_seeds`, one index for each image of x. transform: sigma to the tree's time. cpu:
    keep the trees on the CPU, as the host's samplers do except those named `…_gpu`.
    Raises ValueError for counts that do not match, ImportError without torchsde.
    """

    def __init__(
        self,
        x: torch.Tensor,
        sigma_min: float | torch.Tensor,
        sigma_max: float | torch.Tensor,
        seeds: int | Sequence[int],
        indices: Sequence[int],
        transform: Callable[[torch.Tensor], torch.Tensor] = lambda sigma: sigma,
        cpu: bool = True,
    ):
        import torchsde

        if len(indices) != x.shape[0]:
            raise ValueError(f"{len(indices)} indices for a batch of {x.shape[0]} images; give one for each image")
        self.transform, self.cpu, self.device = transform, cpu, x.device
        low, high, self.sign = _ascending(*(transform(torch.as_tensor(sigma)) for sigma in (sigma_min, sigma_max)))
        zero = torch.zeros_like(x[0])
        if cpu:
            low, high, zero = low.detach().cpu(), high.detach().cpu(), zero.cpu()
        self.trees = [torchsde.BrownianTree(low, zero, high, entropy=seed) for seed in image_seeds(seeds, indices)]

    def __call__(self, sigma, sigma_next) -> torch.Tensor:
        start, end = (self.transform(torch.as_tensor(s)) for s in (sigma, sigma_next))
        low, high, sign = _ascending(start, end)
        if self.cpu:
            low, high = low.detach().cpu().float(), high.detach().cpu().float()
        increments = torch.stack([tree(low, high) for tree in self.trees]).to(self.device, start.dtype)
        return increments * (self.sign * sign) / (end - start).abs().sqrt()


def _ascending(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
    return (a, b, 1) if a < b else (b, a, -1)


def _hash(seed: int, index: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed},{index}".encode()).digest()[:8], "big")


def _pairs(seeds: int | Sequence[int], indices: Sequence[int]) -> list[tuple[int, int]]:
    indices = [int(index) for index in indices]
    seeds = [seeds] * len(indices) if isinstance(seeds, int) else [int(seed) for seed in seeds]
    if len(seeds) != len(indices):
        raise ValueError(f"{len(seeds)} seeds for {len(indices)} images; give one seed for all or one for each image")
    for seed, index in zip(seeds, indices, strict=True):
        if not -_SEEDS // 2 <= seed < _SEEDS:
            raise ValueError(f"seed {seed} is out of range; expected 0 to 2**64 - 1")
        if index < 0:
            raise ValueError(f"image index {index} is negative; indices count from 0")
    # ComfyUI's integer node draws negative ones, which its own samplers leave to torch.
    return [(seed % _SEEDS, index) for seed, index in zip(seeds, indices, strict=True)]
