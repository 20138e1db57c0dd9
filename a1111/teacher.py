"""The host's image to image as the teacher's pass needs it: it starts from the student's own pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from functools import partial

import torch

from ..samplers.rollback import noise_variance
from . import control, host
from .choices import SAME, Choices
from .mask_noise import of_own_seeds
from .sampling import goes_by_timesteps, is_flow, points_of, timesteps_from
from .sources import Picture, picture_of
from .trouble import NotRedone

# What the pass has of the job, where the host has it: of any, what guides a flow model's network and shifts its times;
# of image to image, what its mask, its region and its conditioning come from.
OF_ANY = ("distilled_cfg_scale",)
OF_IMAGES = (
    *("resize_mode", "latent_mask", "mask_round", "mask_blur", "mask_blur_x", "mask_blur_y", "image_cfg_scale"),
    *("inpainting_fill", "inpaint_full_res", "inpaint_full_res_padding", "inpainting_mask_invert"),
)


def teacher_prompt(prompt: str, remove: str) -> str:
    """The student's prompt without the parts that ``remove`` names, separated by commas; * is any text."""
    for part in filter(None, (part.strip() for part in remove.split(","))):
        pattern = ".*?".join(re.escape(piece) for piece in part.split("*"))
        prompt = re.sub(pattern.replace(".*?", "[^<>]*?"), "", prompt, flags=re.IGNORECASE)
    return prompt


def teacher_pass(p, choices: Choices, pictures: Sequence[Picture], same: bool):
    """The host's processing for these pictures, in batches of the job's size.

    p: the student's processing. same: whether the teacher is the student's checkpoint and so reads its latents.
    """
    from modules.processing import StableDiffusionProcessingImg2Img

    class TeacherPass(StableDiffusionProcessingImg2Img):
        start = float("nan")
        begun = False

        def init(self, prompts, seeds, subseeds):
            self.begun, self.latents = True, []
            size, starts, conditionings = self.batch_size, [], []
            self.batch_size = 1
            for place, picture in enumerate(pictures):
                # From the job's sources the host makes the mask, the region and the conditioning once more. It draws
                # from torch's own state, of which a picture would have another part beside others.
                self.init_images = [_source(picture)]
                torch.manual_seed(picture.seed)
                super().init(*(given[place : place + 1] for given in (prompts, seeds, subseeds)))
                starts.append(self._start_of(picture).to(self.init_latent))
                conditionings.append(self.image_conditioning)
            self.batch_size = size
            parts = (torch.cat(several).split(size) for several in (starts, conditionings))
            self.batches = list(zip(*parts, strict=True))
            # Back come pictures without the job's frame: the host, or the job at its end, lays it around them.
            self.overlay_images = self.paste_to = self.mask_for_overlay = None
            if goes_by_timesteps(choices.sampler):
                self.sampler.get_timesteps = self.timesteps
                points = points_of(choices.sampler, self.steps)
                # The last is where the host puts the picture, see `timesteps`.
                self.sampler.sample_img2img = partial(self.sampler.sample_img2img, steps=points + 1)

        def img2img_image_conditioning(self, source_image, latent_image, image_mask=None, *given, **more):
            self.worked_on, self.shape = (source_image + 1) / 2, image_mask
            return super().img2img_image_conditioning(source_image, latent_image, image_mask, *given, **more)

        def _start_of(self, picture: Picture) -> torch.Tensor:
            """Latents [1, C, h, w] of a picture that the host has just been given."""
            from modules import devices, shared
            from modules.sd_samplers_common import images_tensor_to_samples

            if picture.latent is not None and same:
                return picture.latent[None]
            if picture.frame.source is None:
                return self.init_latent
            pixels = picture.pixels[None].to(self.worked_on)
            if self.shape is not None and pixels.shape == self.worked_on.shape:
                # Around the mask the source itself, not the student's picture of it.
                pixels = torch.lerp(self.worked_on, pixels, _weights(self.shape).to(pixels))
            torch.manual_seed(picture.seed)
            return images_tensor_to_samples(pixels.to(shared.device, dtype=devices.dtype_vae), 0, self.sd_model)

        def sample(self, *args, **kwargs):
            self.init_latent, self.image_conditioning = self.batches[self.iteration]
            with of_own_seeds(self.seeds):
                samples = super().sample(*args, **kwargs)
            if stopped := host.cut_short():  # the host forgets that a batch was skipped when the next begins
                raise NotRedone(stopped)
            self.latents.extend(samples.detach().cpu())
            return samples

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
            flow = is_flow(self.sampler)
            sigmas = noise_variance(curve, self.steps, choices.noise, lowest, highest, flow)
            self.start = float(sigmas[0])
            if count > self.steps:  # the host takes the last but one away again
                sigmas = torch.cat([sigmas[:-1], sigmas[-2:]])
            return sigmas

        def timesteps(self, p, count: int) -> torch.Tensor:
            """As `levels`, for a sampler that goes by timesteps.

            The host puts the picture at the last, and starts at the one before, so that the network would take it for
            less noisy than it is: here both are the same.
            """
            from modules import shared

            if is_flow(self.sampler):
                raise NotRedone(f"{choices.sampler} cannot sample a flow model: choose another for the teacher")
            points, self.start = timesteps_from(shared.sd_model.alphas_cumprod, choices.noise, count - 1)
            return torch.cat([points, points[-1:]])

    size = min(p.batch_size, len(pictures))
    height, width = pictures[0].pixels.shape[1:]  # a hires fix makes them larger than the job says
    from_images = bool(getattr(p, "init_images", None))
    known = {field.name for field in fields(TeacherPass) if field.init}
    carried = known.intersection((*OF_ANY, *OF_IMAGES) if from_images else OF_ANY)
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
        batch_size=size,
        n_iter=-(-len(pictures) // size),
        steps=choices.steps,
        cfg_scale=choices.cfg,
        width=p.width if from_images else width,
        height=p.height if from_images else height,
        tiling=p.tiling,
        restore_faces=False,
        do_not_save_samples=True,
        do_not_save_grid=True,
        disable_extra_networks=p.disable_extra_networks,
        override_settings=_settings(p, choices),
        # Those of the job where there are any: a ControlNet without a picture of its own reads the first.
        init_images=p.init_images if from_images else [_source(picture) for picture in pictures[:size]],
        mask=getattr(p, "image_mask", None),
        **{name: getattr(p, name) for name in carried},
        denoising_strength=1.0,  # with img2img_fix_steps: all of the sigmas that `levels` gives
        initial_noise_multiplier=1.0,
    )
    if hasattr(p, "inpainting_mask_weight"):
        q.inpainting_mask_weight = p.inpainting_mask_weight
    q.scripts = q.script_args = None
    q.sampler_noise_scheduler_override = q.levels
    q.cached_c, q.cached_uc = [None] * len(q.cached_c), [None] * len(q.cached_uc)
    return q


def _settings(p, choices: Choices) -> dict:
    """The job's, the teacher's checkpoint, and nothing that the pass would do beside its work."""
    settings = {**(p.override_settings or {}), "img2img_fix_steps": True}
    settings |= {"img2img_color_correction": False, "save_init_img": False, "img2img_extra_noise": 0.0}
    settings |= control.settings_for_a_pass()
    if choices.teacher != SAME:
        settings["sd_model_checkpoint"] = host.checkpoint_title(choices.teacher)
        settings |= host.modules_setting(choices.modules)
    return settings


def _source(picture: Picture):
    return picture.frame.source or picture_of(picture.pixels)


def _weights(mask) -> torch.Tensor:
    """[H, W] in [0, 1] of the mask (PIL): 1 where the picture is made anew."""
    import numpy

    return torch.from_numpy(numpy.array(mask.convert("L"))) / 255
