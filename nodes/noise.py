"""Noise per image for the host's own samplers: what an image gets depends on its seed and index, not on its batch.

An image of index 0 draws what the host draws for a batch of one with the same seed.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Mapping, Sequence

import torch

from ..samplers.noise import PerImageBrownianNoise, PerImageNoise
from .seeds import BatchNoise

# The host's samplers and one of ours without noise of their own, whose steps treat each image by itself. A sampler that
# is neither here nor takes a noise sampler may couple the images of a batch or draw noise for all of them at once
# (dpm_adaptive, and samplers of other packs): it runs image by image.
NOISELESS = frozenset(
    "euler euler_cfg_pp heun heunpp2 exp_heun_2_x0 dpm_2 lms dpm_fast dpmpp_2m dpmpp_2m_cfg_pp ipndm ipndm_v deis "
    "gradient_estimation gradient_estimation_cfg_pp ddim uni_pc uni_pc_bh2 unipc unipc_bh2 one_step".split()
)
# Options of a conditioning that make the host draw further noise, one for all images of a run, from the run's seed.
DRAWN = frozenset({"unclip_conditioning", "noise_augmentation"})


def starting_noise(
    shape: Sequence[int], dtype: torch.dtype, seed: int, batch_index: Sequence[int] | None
) -> torch.Tensor:
    """What the host's KSampler starts a batch of latents of this ``shape`` from, on the CPU."""
    from comfy.sample import prepare_noise

    like = torch.zeros((), dtype=dtype).expand(tuple(shape))
    return prepare_noise(like, seed, None if batch_index is None else list(batch_index))


def noise_of_batch(noise: BatchNoise, like: torch.Tensor, given=None) -> torch.Tensor:
    """The starting noise [batch, ...] of the whole batch that latents ``like`` [B, ...] belong to.

    given: a NOISE of the host that makes it. With a batch_index it is asked for every place up to the highest, so that
    it need not know what a batch_index is. Raises ValueError where it makes noise of another shape.
    """
    if given is None:
        return starting_noise((noise.batch, *like.shape[1:]), like.dtype, noise.seed, noise.batch_index)
    places = range(noise.batch) if noise.batch_index is None else range(max(noise.batch_index) + 1)
    latent = {"samples": torch.zeros(len(places), *like.shape[1:], dtype=like.dtype)}
    if noise.batch_index is not None:
        latent["batch_index"] = list(places)
    made = given.generate_noise(latent)
    if made.shape != latent["samples"].shape:
        raise ValueError(
            f"noise made {list(made.shape)} for latents of {list(latent['samples'].shape)}; connect one that makes as "
            "much as it is asked for, such as Random Noise."
        )
    return made if noise.batch_index is None else made[list(noise.batch_index)]


def draw_from(seed: int, shape: Sequence[int]):
    """Put torch's own generator where the host has it when a sampler begins: seeded, and the starting noise drawn."""
    torch.manual_seed(seed)
    torch.randn(tuple(shape), device="cpu")


def name_of(sampler) -> str:
    """What a SAMPLER's function is called, the host's or ours; of any other an empty name, since it is not known."""
    function = getattr(sampler, "sampler_function", None)
    name = getattr(function, "__name__", "").removeprefix("sample_").removesuffix("_function")
    own = ("comfy", __package__.partition(".")[0])
    return name if getattr(function, "__module__", "").partition(".")[0] in own else ""


def takes_noise_sampler(sampler) -> bool:
    function = getattr(sampler, "sampler_function", None)
    return function is not None and "noise_sampler" in inspect.signature(function).parameters


def runs_as_batch(name: str, sampler, masked: bool) -> bool:
    """Whether an image gets the same from this sampler alone and within a batch. masked: a noise mask is in use."""
    if masked and getattr(sampler, "inpaint_options", {}).get("random"):
        return False  # The host then draws the masked part's noise for the whole batch at once (ddim).
    if getattr(sampler, "extra_options", {}).get("s_churn"):
        return False  # Noise that no noise sampler is asked for.
    return name in NOISELESS or takes_noise_sampler(sampler)


def draws_from_seed(conds: Iterable[Mapping]) -> bool:
    """Whether the host draws noise for any of these entries of a conditioning, given by their options."""
    return any(DRAWN & options.keys() for options in conds)


def needs_one_seed(guider, sampler) -> bool:
    """Whether something reads the one seed that the host has for a run, so that images of others are sampled apart.

    A sampler of another pack may, beside the noise sampler that it takes: ``name_of`` knows none of those.
    """
    conds = (options for entries in guider.original_conds.values() for options in entries)
    return draws_from_seed(conds) or not name_of(sampler)


def with_noise_per_image(name: str, sampler, seeds: Sequence[int] | None, indices: Sequence[int]):
    """The host's KSAMPLER object with noise per image; as it is where it takes no noise sampler.

    seeds: one for each image, None for the seed that the host calls the sampler with. indices: the images' places in
    the whole batch. The object's own ValueError is for another number of images. Made of such an object, as of the
    SAMPLER of Student preset, it has the noise of these images instead of that one's.
    """
    if not takes_noise_sampler(sampler):
        return sampler
    from comfy.samplers import KSAMPLER

    function = sampler.sampler_function

    @functools.wraps(function)
    def sample(model, x, sigmas, noise_sampler=None, **options):
        if noise_sampler is not None:
            return function(model, x, sigmas, noise_sampler=noise_sampler, **options)
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
