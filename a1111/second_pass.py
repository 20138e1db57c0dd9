"""The teacher's pass: the host's own image to image over all pictures to be redone, each in its own noise."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ..samplers.rollback import noise_variance
from . import host
from .choices import SAME, Choices


@dataclass
class Picture:
    """One picture of the job.

    pixels: [3, H, W] in [0, 1]; latent: [C, h, w] or None where the host gave none; both on the CPU.
    """

    prompt: str
    negative: str
    seed: int
    subseed: int
    pixels: torch.Tensor
    latent: torch.Tensor | None
    score: float


class Redone(NamedTuple):
    """pixels: [3, H, W] in [0, 1], one for each picture. sigma: where the teacher started."""

    pixels: list[torch.Tensor]
    sigma: float


class NotRedone(RuntimeError):
    """The teacher's pass did not end: the student's pictures stay, and this says why."""


def redo(p, choices: Choices, pictures: Sequence[Picture]) -> Redone:
    """The pictures after the teacher, in one pass. p: the student's processing. Raises NotRedone."""
    from modules import devices, processing, shared

    if host.interrupted():
        raise NotRedone("interrupted")
    shared.state.job_count += 1
    shared.state.textinfo = f"Understudy: the teacher redoes {len(pictures)} pictures"
    with host.undisturbed():
        q = _processing(p, choices, pictures)
        try:
            processed = processing.process_images(q)
        except devices.NansException as error:
            raise NotRedone("the teacher made numbers that are none (NaN)") from error
        except torch.cuda.OutOfMemoryError as error:
            raise NotRedone("out of memory; choose a smaller batch size") from error
        except (RuntimeError, OSError, ValueError, KeyError, AttributeError) as error:
            raise NotRedone(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
        finally:
            q.close()
            if not host.is_loaded(choices.teacher):
                host.load_chosen_checkpoint()
            shared.state.textinfo = None
    if host.interrupted():
        raise NotRedone("interrupted")
    made = processed.images[processed.index_of_first_image :][: len(pictures)]
    return Redone([pixels_of(image) for image in made], q.start)


def teacher_prompt(prompt: str, remove: str) -> str:
    """The student's prompt without the parts that ``remove`` names, separated by commas; * is any text."""
    for part in filter(None, (part.strip() for part in remove.split(","))):
        pattern = ".*?".join(re.escape(piece) for piece in part.split("*"))
        prompt = re.sub(pattern.replace(".*?", "[^<>]*?"), "", prompt, flags=re.IGNORECASE)
    return prompt


def pixels_of(image) -> torch.Tensor:
    """A picture of the host as its hooks have them: [3, H, W] in [0, 1], which it cuts to the same bytes again."""
    import numpy

    bytes_of = torch.from_numpy(numpy.array(image.convert("RGB"))).permute(2, 0, 1).float()
    return ((bytes_of + 0.25) / 255).clamp(max=1)  # a little above, since the host cuts and does not round


def picture_of(pixels: torch.Tensor):
    """The host's own way from [3, H, W] in [0, 1] to a PIL image."""
    import numpy
    from PIL import Image

    return Image.fromarray((255.0 * numpy.moveaxis(pixels.numpy(), 0, 2)).astype(numpy.uint8))


def _processing(p, choices: Choices, pictures: Sequence[Picture]):
    """The host's image to image for these pictures."""
    from modules.processing import StableDiffusionProcessingImg2Img

    class TeacherPass(StableDiffusionProcessingImg2Img):
        """Starts from the student's latents, or from each picture encoded by its own seed."""

        start = float("nan")

        def init(self, *given):
            super().init(*given)
            self.init_latent = torch.stack([self._latent(picture) for picture in pictures]).to(self.init_latent)

        def _latent(self, picture: Picture) -> torch.Tensor:
            from modules import devices, shared
            from modules.sd_samplers_common import images_tensor_to_samples

            if picture.latent is not None and host.is_loaded(choices.teacher):
                return picture.latent
            # The encoder draws from torch's own state, of which a picture would have another part beside others.
            torch.manual_seed(picture.seed)
            pixels = picture.pixels[None].to(shared.device, dtype=devices.dtype_vae)
            return images_tensor_to_samples(pixels, 0, self.sd_model)[0].cpu()

        def levels(self, count: int) -> torch.Tensor:
            """The teacher's sigmas: from the noise that was asked for, down along the chosen scheduler's curve."""

            def curve(steps: int) -> torch.Tensor:
                self.sampler_noise_scheduler_override = None
                try:
                    return self.sampler.get_sigmas(self, steps)
                finally:
                    self.sampler_noise_scheduler_override = self.levels

            whole = self.sampler.model_wrap.sigmas
            lowest, highest = float(whole.min()), float(whole.max())
            sigmas = noise_variance(curve, self.steps, choices.noise, lowest, highest)
            self.start = float(sigmas[0])
            if count > self.steps:  # the host takes the last but one away again
                sigmas = torch.cat([sigmas[:-1], sigmas[-2:]])
            return sigmas

    settings = {**(p.override_settings or {}), "img2img_fix_steps": True}
    if choices.teacher != SAME:
        settings["sd_model_checkpoint"] = host.checkpoint_title(choices.teacher)
        settings |= host.modules_setting(choices.modules)
    height, width = pictures[0].pixels.shape[1:]
    q = TeacherPass(
        outpath_samples=p.outpath_samples,
        outpath_grids=p.outpath_grids,
        prompt=[teacher_prompt(picture.prompt, choices.remove) for picture in pictures],
        negative_prompt=[picture.negative for picture in pictures],
        seed=[picture.seed for picture in pictures],
        subseed=[picture.subseed for picture in pictures],
        subseed_strength=p.subseed_strength,
        seed_resize_from_h=p.seed_resize_from_h,
        seed_resize_from_w=p.seed_resize_from_w,
        sampler_name=choices.sampler,
        scheduler=choices.scheduler,
        batch_size=len(pictures),
        n_iter=1,
        steps=choices.steps,
        cfg_scale=choices.cfg,
        width=width,
        height=height,
        tiling=p.tiling,
        restore_faces=False,
        do_not_save_samples=True,
        do_not_save_grid=True,
        override_settings=settings,
        init_images=[picture_of(picture.pixels) for picture in pictures],
        resize_mode=0,
        mask=None,
        denoising_strength=1.0,  # with img2img_fix_steps: all of the sigmas that `levels` gives
        initial_noise_multiplier=1.0,
    )
    q.scripts = q.script_args = None
    q.sampler_noise_scheduler_override = q.levels
    q.cached_c, q.cached_uc = [None] * len(q.cached_c), [None] * len(q.cached_uc)
    return q
