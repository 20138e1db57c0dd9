"""Some pictures of a batch once more from other seeds, as the host made their first."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from . import host
from .counting import count_for
from .trouble import pictures

# What a processing holds for each picture of its batch, where it has it.
PER_PICTURE = (
    *("prompts", "negative_prompts", "seeds", "subseeds", "c", "uc"),
    *("hr_prompts", "hr_negative_prompts", "hr_c", "hr_uc", "init_latent", "image_conditioning"),
)
OTHERS = ("batch_size", "rng", "sampler", "do_not_save_samples")


@dataclass
class Try:
    """A student of a picture. decoded: [3, H, W] in [-1, 1] on the CPU; latent: None where the host gave none."""

    decoded: torch.Tensor
    latent: torch.Tensor | None

    @property
    def pixels(self) -> torch.Tensor:
        return ((self.decoded.float() + 1) / 2).clamp(0, 1)


def decoded(p, samples) -> list[Try]:
    """As the host decodes, unless it has."""
    from modules import devices
    from modules.processing import decode_latent_batch

    if getattr(samples, "already_decoded", False):
        return [Try(sample.cpu(), None) for sample in samples]
    made = decode_latent_batch(p.sd_model, samples, target_device=devices.cpu, check_for_nans=True)
    return [Try(picture, latent) for picture, latent in zip(made, samples.detach().cpu(), strict=True)]


def sampled_again(p, rows: Sequence[int], numbers: Sequence[tuple[int, int]], shape) -> tuple[list[Try], float | None]:
    """Students of some pictures of the batch from these (seed, subseed), and what each took."""
    from modules import devices, extra_networks

    hires = getattr(p, "enable_hr", False)
    text = f"Understudy: another try of {pictures(len(rows))}"
    progress = host.shown_pass(p.steps, text, 2 if hires else 1)
    with progress, host.undisturbed(()), _only(p, rows, numbers, shape):
        host.load_chosen_checkpoint(p)  # a refiner or hires fix may have had another, and other networks
        if hires and not p.disable_extra_networks:
            with devices.autocast():
                extra_networks.activate(p, p.extra_network_data)
        counted, upcast = count_for(p), getattr(devices, "unet_needs_upcast", False)
        with devices.without_autocast() if upcast else devices.autocast():
            samples = p.sample(
                conditioning=p.c,
                unconditional_conditioning=p.uc,
                seeds=p.seeds,
                subseeds=p.subseeds,
                subseed_strength=p.subseed_strength,
                prompts=p.prompts,
            )
        if host.cut_short():
            return [], None
        return decoded(p, samples), counted.each


@contextmanager
def _only(p, rows: Sequence[int], numbers: Sequence[tuple[int, int]], shape: Sequence[int]) -> Iterator[None]:
    """The processing as if its batch were these pictures, with these seeds; afterwards as it was."""
    from modules.rng import ImageRNG

    held = {name: getattr(p, name) for name in (*PER_PICTURE, *OTHERS) if hasattr(p, name)}
    count = len(p.seeds)
    try:
        for name in PER_PICTURE:
            if held.get(name) is not None:
                setattr(p, name, _rows(held[name], rows, count))
        p.seeds, p.subseeds = [seed for seed, _ in numbers], [subseed for _, subseed in numbers]
        p.batch_size = len(rows)
        p.do_not_save_samples = True  # of what hires fix starts from
        p.rng = ImageRNG(
            shape,
            p.seeds,
            subseeds=p.subseeds,
            subseed_strength=p.subseed_strength,
            seed_resize_from_h=p.seed_resize_from_h,
            seed_resize_from_w=p.seed_resize_from_w,
        )
        yield
    finally:
        for name, value in held.items():
            setattr(p, name, value)


def _rows(value, rows: Sequence[int], count: int):
    """The entries of some pictures, of whatever kind holds one for each."""
    if hasattr(value, "batch"):  # prompts joined by AND
        part = copy.copy(value)
        part.batch, part.shape = [value.batch[row] for row in rows], (len(rows),)
        return part
    if len(value) != count:  # one for all
        return value
    return value[list(rows)] if isinstance(value, torch.Tensor) else type(value)(value[row] for row in rows)
