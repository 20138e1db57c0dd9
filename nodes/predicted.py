"""A MODEL under a gradient predictor: by the host's own wrappers, so that any sampler and guider will do."""

from __future__ import annotations

import torch

from ..predictor import Predictor, switched_off_at
from ..predictor.denoiser import Collected, acts_at, moved
from .patches import PARAMS

KEY = "understudy_predictor"


def require_fit(model, predictor: Predictor, name: str) -> None:
    """Raises ValueError, with the network's name, unless the MODEL is a UNet that the predictor of this file fits."""
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from comfy.model_sampling import CONST

    unet, sampling = model.model.diffusion_model, model.get_model_object("model_sampling")
    if not isinstance(unet, UNetModel):
        raise ValueError(
            f"the model is a {type(unet).__name__}; a gradient predictor needs a UNet, such as SD 1.x's or SDXL's."
        )
    predictor.layout.require(unet.out_channels, _channels(unet.middle_block), map(_channels, unet.input_blocks), name)
    if isinstance(sampling, CONST) and predictor.layout.mode == "gradient":
        raise ValueError(f"{name} is for a student that predicts noise or v, but the model samples as a flow.")


def _channels(block) -> int:
    """What a block of the host's UNet hands on."""
    return next(layer.out_channels for layer in block if hasattr(layer, "out_channels"))


@torch.no_grad()
def meaning_of(model, predictor: Predictor, image: torch.Tensor, vae) -> torch.Tensor:
    """z [B, D] of pictures [B, H, W, C]."""
    return predictor.meaning(model.model.process_latent_in(vae.encode(image[..., :3])).cpu())


def predicted(model, predictor: Predictor, strength: float, until: float, z: torch.Tensor | None = None):
    """A clone of the MODEL. z [1, D] or [images, D]; None draws each image's from the prior, by its own noise."""
    from comfy.patcher_extension import WrappersMP

    hosted, model = _Hosted(predictor, strength, until, z), model.clone()
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, hosted.sample)
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, hosted.apply)
    model.set_additional_models(KEY, [*model.get_additional_models_with_key(KEY), hosted.patcher])
    return model


class _Hosted:
    """The branch goes with the MODEL to its device; prior and encoder stay, so that z is the same on every one."""

    def __init__(self, predictor: Predictor, strength: float, until: float, z: torch.Tensor | None):
        import comfy.model_management
        import comfy.model_patcher

        self.predictor, self.strength, self.until = predictor, strength, until
        # Rows, as a tensor of as many as images would be taken for a patch that does not know which are sampled.
        self.given = None if z is None else list(z)
        self.z, self.off = None, 0.0
        # The patcher sets `device` on its model: hence the list.
        self.patcher = comfy.model_patcher.ModelPatcher(
            torch.nn.ModuleList([predictor.branch]),
            load_device=comfy.model_management.get_torch_device(),
            offload_device=comfy.model_management.unet_offload_device(),
        )

    def sample(self, sample, noise, latent_image, sampler, sigmas, *arguments, **named):
        """One sampling: its images' z, and the level from which on it stops."""
        images, self.off = len(noise), switched_off_at(sigmas, self.until)
        if self.given is None:
            # A later part of a schedule adds no noise; what it begins with is then the image's own.
            start = noise if noise.any() else latent_image
            self.z = self.predictor.drawn(start, _text(sample.class_obj, images))
        else:
            self.z = self._given(sample.class_obj, images)
        try:
            return sample(noise, latent_image, sampler, sigmas, *arguments, **named)
        finally:
            self.z = None

    def _given(self, guider, images: int) -> torch.Tensor:
        """z of the pictures for the images that are sampled, which may be some of a batch (see ``patches``)."""
        rows = guider.model_options.get("transformer_options", {}).get(PARAMS, {}).get("sub_idxs")
        if rows is not None and len(rows) == images and max(rows) < len(self.given) > 1:
            return torch.stack([self.given[row] for row in rows])
        if len(self.given) not in (1, images):
            raise ValueError(
                f"Apply gradient predictor has {len(self.given)} images for {images} to be sampled: give it "
                "one, or one for each."
            )
        return torch.stack(self.given)

    def apply(self, apply_model, x, t, concat=None, context=None, control=None, transformer_options=None, **named):
        """x0 of one call: of the images, once for each conditioning that is evaluated with it."""
        transformer_options = transformer_options or {}
        if self.z is None or not acts_at(float(t.max()), self.off):
            return apply_model(x, t, concat, context, control, transformer_options, **named)
        seen = Collected()

        def read(hidden, skip, options):
            # The first is what the middle gave, which a later patch may change in its place.
            seen.add(hidden.clone() if seen.middle is None else hidden, [skip])
            return hidden, skip

        patches = transformer_options.get("patches", {})
        patches = {**patches, "output_block_patch": [read, *patches.get("output_block_patch", [])]}
        options = {**transformer_options, "patches": patches}
        x0 = apply_model(x, t, concat, context, control, options, **named)
        if seen.middle is None:
            raise ValueError(
                "the network was not run, so that the gradient predictor could not read its encoder: take off what "
                "answers in its place, such as a cache."
            )
        told = apply_model.class_obj.model_sampling.timestep(t).float()
        return x0 + self.strength * moved(self.predictor, seen.features, told, self.z.to(x.device), t).to(x0.dtype)


def _text(guider, images: int) -> torch.Tensor:
    """[images, P]: the pooled text of the first positive conditioning, where the network is told it, else the mean."""
    from comfy.utils import repeat_to_batch_size

    conditioning = guider.conds["positive"][0]
    pooled = guider.model_patcher.model.diffusion_model.num_classes is not None
    text = conditioning["pooled_output"] if pooled else conditioning["cross_attn"].float().mean(1)
    return repeat_to_batch_size(text.float().cpu(), images)
