"""Noise per image for the host's own samplers: what an image gets depends on its seed and index, not on its batch.

An image of index 0 draws what the host draws for a batch of one with the same seed.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence

import torch

from ..samplers.noise import PerImageBrownianNoise, PerImageNoise

# The host's samplers and one of ours without noise of their own, whose steps treat each image by itself. A sampler that
# is neither here nor takes a noise sampler may couple the images of a batch or draw noise for all of them at once
# (dpm_adaptive, and samplers of other packs): it runs image by image.
NOISELESS = frozenset(
    "euler euler_cfg_pp heun heunpp2 exp_heun_2_x0 dpm_2 lms dpm_fast dpmpp_2m dpmpp_2m_cfg_pp ipndm ipndm_v deis "
    "gradient_estimation gradient_estimation_cfg_pp ddim uni_pc uni_pc_bh2 one_step".split()
)


def starting_noise(
    shape: Sequence[int], dtype: torch.dtype, seed: int, batch_index: Sequence[int] | None
) -> torch.Tensor:
    """What the host's KSampler starts a batch of latents of this ``shape`` from, on the CPU."""
    from comfy.sample import prepare_noise

    like = torch.zeros((), dtype=dtype).expand(tuple(shape))
    return prepare_noise(like, seed, None if batch_index is None else list(batch_index))


def takes_noise_sampler(sampler) -> bool:
    return "noise_sampler" in inspect.signature(sampler.sampler_function).parameters


def runs_as_batch(name: str, sampler, masked: bool) -> bool:
    """Whether an image gets the same from this sampler alone and within a batch. masked: a noise mask is in use."""
    if name == "ddim" and masked:  # The host then draws the masked part's noise for the whole batch at once.
        return False
    return name in NOISELESS or takes_noise_sampler(sampler)


def with_noise_per_image(name: str, sampler, seeds: Sequence[int] | None, indices: Sequence[int]):
    """The host's KSAMPLER object with noise per image; as it is where it takes no noise sampler.

    seeds: one for each image, None for the seed that the host calls the sampler with. indices: the images' places in
    the whole batch. The object's own ValueError is for another number of images.
    """
    if not takes_noise_sampler(sampler):
        return sampler
    from comfy.samplers import KSAMPLER

    function = sampler.sampler_function

    @functools.wraps(function)
    def sample(model, x, sigmas, **options):
        if len(x) != len(indices):
            raise ValueError(f"the sampler is for {len(indices)} images, but {len(x)} latents are to be sampled")
        own = [options["extra_args"]["seed"]] * len(x) if seeds is None else seeds
        if name.startswith("dpmpp_") and "_sde" in name:
            low, high, cpu = sigmas[sigmas > 0].min(), sigmas.max(), not name.endswith("_gpu")
            noise = PerImageBrownianNoise(x, low, high, own, indices, cpu=cpu)
        else:
            noise = PerImageNoise(own, indices, x.shape[1:], x.device, x.dtype, generator_device=x.device)
        return function(model, x, sigmas, noise_sampler=noise, **options)

    return KSAMPLER(sample, sampler.extra_options, sampler.inpaint_options)
