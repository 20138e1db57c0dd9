"""Run a sampler of the host over latents: as one batch where that is the same for each image, else image by image."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..samplers.noise import image_seeds
from .counting import counted
from .hints import hint_per_image, with_hints_of
from .hooks import for_hooks
from .noise import runs_as_batch, with_noise_per_image
from .patches import PARAMS, params_of_rows
from .subset import Subset, cond_masks_per_image, mask_per_image


class Progress:
    """The host's progress bar and previews over several sampling runs, as one bar."""

    def __init__(self, model, steps: int, runs: int):
        from latent_preview import prepare_callback

        self.callback = prepare_callback(model, steps * runs)
        self.steps, self.runs, self.run = steps, runs, -1

    def next_run(self):
        """The sampler's callback for the next run. Cancelling acts through it, too."""
        self.run += 1
        run = self.run

        def callback(step, denoised, x, total_steps):
            step = min(step, self.steps - 1)  # dpm_adaptive takes as many steps as it likes
            self.callback(run * self.steps + step, denoised, x, self.runs * self.steps)

        return callback


def runs_needed(model, name: str, sampler, latent: dict, images: int) -> int:
    """How many sampling runs ``sample_images`` makes of so many images."""
    return 1 if _together(model, name, sampler, latent) else images


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
) -> tuple[torch.Tensor, list[int]]:
    """Sample ``latent`` ({"samples": [B, ...], "noise_mask": ...}) from ``sigmas[0]`` on.

    Returns samples [B, ...] and the network evaluations that each image took, counted.

    name, sampler: the host's name for it and its KSAMPLER object. seed, indices: the seed of all images or of each, and
    their places in the whole batch, on which their noise depends. noise: the starting noise [B, ...]. rows: which
    images of a whole batch these B are, for patches of the model that hold an entry for each of that; without it they
    are the whole batch.
    """
    from comfy.sample import sample_custom
    from comfy.utils import PROGRESS_BAR_ENABLED

    samples = latent["samples"]
    batch = samples.shape[0]
    together = _together(model, name, sampler, latent)
    runs = [range(batch)] if together else [[place] for place in range(batch)]
    size = samples.shape[2:]
    latent = {key: latent[key] for key in ("samples", "noise_mask") if key in latent}
    if "noise_mask" in latent:
        latent["noise_mask"] = mask_per_image(latent["noise_mask"], samples.shape)
    positive, negative = (cond_masks_per_image(each, size) for each in (positive, negative))
    rows = rows or Subset(range(batch), batch)
    model, count = counted(for_hooks(model, positive, negative))
    options = model.model_options["transformer_options"]
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
        done.append(
            sample_custom(
                with_hints_of(model, sampled),
                noise[list(places)],
                cfg,
                with_noise_per_image(name, sampler, seeds, own),
                sigmas.clone(),  # some of the host's samplers write into it
                subset.conditioning(positive, size),
                subset.conditioning(negative, size),
                cut["samples"],
                noise_mask=cut.get("noise_mask"),
                callback=progress.next_run(),
                disable_pbar=not PROGRESS_BAR_ENABLED,
                # A sampler that runs image by image may draw noise of its own from this.
                seed=seeds[0] if together else image_seeds(seeds, own)[0],
            )
        )
        evaluations += [(count.total - before) // len(places)] * len(places)
    return torch.cat(done), evaluations
