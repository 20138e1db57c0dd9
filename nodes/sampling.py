"""Run a sampler of the host over latents: as one batch where that is the same for each image, else image by image."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..samplers.noise import image_seeds
from .counting import Counting
from .guiders import cfg_guider, for_counting, takes_each_by_itself, with_parts
from .hints import hint_per_image, with_hints_of
from .noise import draw_from, runs_as_batch, with_noise_per_image
from .patches import PARAMS, params_of_rows
from .subset import Subset, mask_per_image


class Progress:
    """The host's progress bar and previews over several sampling runs, ``steps`` each, as one bar."""

    def __init__(self, model, steps: int, runs: int = 1):
        from latent_preview import prepare_callback

        self.total, self.done = steps * runs, 0
        self.callback = prepare_callback(model, self.total)

    def next_run(self, steps: int):
        """The sampler's callback for the next run. Cancelling acts through it, too."""
        before = self.done
        self.done += steps

        def callback(step, denoised, x, total_steps):
            step = min(step, steps - 1)  # dpm_adaptive takes as many steps as it likes
            self.callback(before + step, denoised, x, self.total)

        return callback


def runs_needed(model, name: str, sampler, latent: dict, images: int) -> int:
    """How many sampling runs ``sample_images`` makes of so many images."""
    return 1 if _together(model, name, sampler, latent) else images


def guided_runs_needed(guider, name: str, sampler, latent: dict, images: int) -> int:
    """How many sampling runs ``sample_guided`` makes of so many images."""
    return 1 if _guided_together(guider, name, sampler, latent) else images


def _guided_together(guider, name: str, sampler, latent: dict) -> bool:
    return takes_each_by_itself(guider) and _together(guider, name, sampler, latent)


def _together(model, name: str, sampler, latent: dict) -> bool:
    return runs_as_batch(name, sampler, "noise_mask" in latent) and not hint_per_image(model)


def sample_images(
    model,
    name: str,
    sampler,
    sigmas: torch.Tensor,
    cfg: float,
    positive: list,
    negative: list,
    latent: dict,
    noise: torch.Tensor,
    seed: int | Sequence[int],
    indices: Sequence[int],
    progress: Progress,
    rows: Subset | None = None,
    counting: Counting | None = None,
) -> tuple[torch.Tensor, list[int]]:
    """``sample_guided`` as the host's KSampler guides, by classifier-free guidance."""
    guider = cfg_guider(model, positive, negative, cfg)
    return sample_guided(guider, name, sampler, sigmas, latent, noise, seed, indices, progress, rows, counting)


def sample_guided(
    guider,
    name: str,
    sampler,
    sigmas: torch.Tensor,
    latent: dict,
    noise: torch.Tensor,
    seed: int | Sequence[int],
    indices: Sequence[int],
    progress: Progress,
    rows: Subset | None = None,
    counting: Counting | None = None,
) -> tuple[torch.Tensor, list[int]]:
    """Sample ``latent`` ({"samples": [B, ...], "noise_mask": ...}) from ``sigmas[0]`` on.

    Returns samples [B, ...] and the network evaluations that each image took, counted.

    guider: a GUIDER of the host with the conditioning of these B images; it is not changed. name, sampler: the host's
    name for it and its SAMPLER object. seed, indices: the seed of all images or of each, and their places in the whole
    batch, on which their noise depends. noise: the starting noise [B, ...]. rows: which images of a whole batch these B
    are, for patches of the model that hold an entry for each of that; without it they are the whole batch. counting:
    what several calls count with, where they are to load the model once.
    """
    from comfy.utils import PROGRESS_BAR_ENABLED

    samples = latent["samples"]
    batch = samples.shape[0]
    together = _guided_together(guider, name, sampler, latent)
    runs = [range(batch)] if together else [[place] for place in range(batch)]
    size = samples.shape[2:]
    latent = {key: latent[key] for key in ("samples", "noise_mask") if key in latent}
    if "noise_mask" in latent:
        latent["noise_mask"] = mask_per_image(latent["noise_mask"], samples.shape)
    rows = rows or Subset(range(batch), batch)
    guider, count = for_counting(guider, size, counting or Counting())
    options = guider.model_options["transformer_options"]
    params = options.get(PARAMS)
    done, evaluations = [], []
    for places in runs:
        before = count.total
        subset, sampled = Subset(places, batch), Subset([rows.images[place] for place in places], rows.batch)
        if not sampled.whole:
            options[PARAMS] = params_of_rows(params, sampled.images, sampled.batch)
        cut = subset.latent(latent)
        own = [indices[place] for place in places]
        seeds = [seed if isinstance(seed, int) else seed[place] for place in places]
        # A sampler that runs image by image may draw noise of its own, from what it is told or from torch's generator.
        drawn = seeds[0] if together else image_seeds(seeds, own)[0]
        draw_from(drawn, noise[list(places)].shape)
        model = with_hints_of(guider.model_patcher, sampled)
        conds = {name: subset.conds(entries, size) for name, entries in guider.original_conds.items()}
        done.append(
            with_parts(guider, model, model.model_options, conds).sample(
                noise[list(places)],
                cut["samples"],
                with_noise_per_image(name, sampler, seeds, own),
                sigmas.clone(),  # some of the host's samplers write into it
                denoise_mask=cut.get("noise_mask"),
                callback=progress.next_run(len(sigmas) - 1),
                disable_pbar=not PROGRESS_BAR_ENABLED,
                seed=drawn,
            )
        )
        evaluations += [(count.total - before) // len(places)] * len(places)
    options.pop(PARAMS, None)  # the next call may sample with the same clone
    if params is not None:
        options[PARAMS] = params
    return _kept_between_nodes(torch.cat(done)), evaluations


def _kept_between_nodes(samples: torch.Tensor) -> torch.Tensor:
    """On the device and in the type in which the host keeps latents; hosts before 0.9 leave the type as it is."""
    from comfy import model_management

    dtype = getattr(model_management, "intermediate_dtype", lambda: samples.dtype)()
    return samples.to(device=model_management.intermediate_device(), dtype=dtype)
