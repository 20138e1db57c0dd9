"""Guide a teacher by its own attention while it samples."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..samplers.attention_guidance import KERNEL, SIGMA, blurred_where_attended, column_sums, scaled_blur
from .schema import schema

BLOCK = "middle", 0  # of the host's UNets; the map is that of its first transformer block
PROMPT = {"cond": "positive", "uncond": "negative"}


class UnderstudyAttentionGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="UnderstudyAttentionGuidance",
            display_name="Attention guidance (SFERD)",
            description="Guides a teacher away from what it predicts where the places it looks at most are blurred.",
            search_aliases=["SAG", "self-attention guidance", "SFERD", "PAG"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The teacher: a UNet with attention in its middle block, as SD 1.x and SDXL."
                ),
                io.Float.Input(
                    "scale",
                    default=0.3,
                    min=0.0,
                    max=5.0,
                    step=0.01,
                    tooltip="How far away. 0.3 is SFERD's; 0 hands the model on as it is. Else a step takes one more "
                    "evaluation: three with a cfg above 1, two at cfg 1.",
                ),
                io.Float.Input(
                    "blur_sigma",
                    default=SIGMA,
                    min=0.1,
                    max=10.0,
                    step=0.1,
                    tooltip=f"Strength of the blur, in latents, over {KERNEL} of them.",
                ),
                io.Boolean.Input(
                    "scale_blur",
                    default=True,
                    tooltip="The blur is as said for a latent of 64x64, and larger or smaller with others. Off: the "
                    "same for all, as in ComfyUI's Self-Attention Guidance.",
                ),
            ],
            outputs=[io.Model.Output("model", tooltip="The guided model, for any sampler and scheduler.")],
        )

    @classmethod
    def execute(cls, model, scale, blur_sigma, scale_blur) -> io.NodeOutput:
        require_attention(model)
        return io.NodeOutput(guided(model, scale, blur_sigma, scale_blur) if scale else model)


def guided(model, scale: float, blur_sigma: float, scale_blur: bool):
    """A clone of a MODEL that is guided while ComfyUI samples with it; see ``samplers.attention_guidance``.

    The branch that is looked at, blurred and predicted once more is the negative prompt's where it is sampled, else
    the positive one's. Functions, as a host that copies what a MODEL holds (ComfyUI 0.8.0) would copy an object.
    """
    from comfy.ldm.modules.attention import optimized_attention
    from comfy.patcher_extension import WrappersMP
    from comfy.samplers import calc_cond_batch

    maps: dict = {}  # of the present evaluation: conditioning's uuid to (height, width, column sums [B, N])
    replaced = model.model_options["transformer_options"].get("patches_replace", {}).get("attn1", {})
    before = replaced.get((*BLOCK, 0), replaced.get(BLOCK))

    def evaluate(predict_noise, *args, **kwargs):
        maps.clear()
        return predict_noise(*args, **kwargs)

    def attend(q, k, v, options):
        """The attention as it was, its column sums kept for each conditioning's first pass in an evaluation."""
        heads, uuids = options["n_heads"], options["uuids"]
        if not maps.keys() >= set(uuids):
            for uuid, sums in zip(uuids, column_sums(q, k, heads).chunk(len(uuids)), strict=True):
                maps.setdefault(uuid, (*options["original_shape"][-2:], sums))
        if before is not None:
            return before(q, k, v, options)
        precision = options["attn_precision"]
        return optimized_attention(q, k, v, heads=heads, attn_precision=precision, transformer_options=options)

    def guide(step: dict):
        x, sigma = step["input"], step["sigma"]
        branch = "uncond" if step["uncond"] else "cond"
        conds, x0 = step[branch], step[f"{branch}_denoised"]
        blur = scaled_blur(*x.shape[-2:], KERNEL, blur_sigma) if scale_blur else (KERNEL, blur_sigma)
        try:
            blurred = blurred_where_attended(x0, sums_of(maps, conds, x, PROMPT[branch]), *blur)
        except ValueError as error:
            raise ValueError(f"Attention guidance (SFERD): {error}") from error
        # How a model puts noise to a picture is linear in the picture: this is what its change changes in x.
        change = step["model"].model_sampling.noise_scaling(sigma, torch.zeros_like(x), blurred - x0)
        (again,) = calc_cond_batch(step["model"], [conds], x + change, sigma, step["model_options"])
        return step["denoised"] + scale * (blurred - again)

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "understudy_attention_guidance", evaluate)
    model.set_model_attn1_replace(attend, *BLOCK, 0)
    model.set_model_sampler_post_cfg_function(guide)
    return model


def sums_of(maps: dict, conds: list[dict], x: torch.Tensor, prompt: str) -> torch.Tensor:
    """A branch's column sums [B, N], the mean of its parts'. Raises ValueError where they are not whole."""
    found = [maps[cond["uuid"]] for cond in conds if cond["uuid"] in maps]
    if not found:
        raise ValueError(
            f"the middle block has not run for the {prompt} prompt in this step; take off what skips it, such as a "
            "cache, another node that skips a branch, or a time range of that prompt."
        )
    if any((height, width) != tuple(x.shape[-2:]) for height, width, _ in found):
        raise ValueError(f"the {prompt} prompt has areas, of which there is no map of the whole picture; use masks.")
    sums = torch.stack([own for *_, own in found]).mean(dim=0)
    if len(sums) != len(x):
        raise ValueError(
            f"{len(sums)} maps for {len(x)} images; take off what cuts the middle block's self-attention into parts, "
            "such as HyperTile."
        )
    return sums


def require_attention(model) -> None:
    """Raises ValueError, with the network's name, for a MODEL that is no UNet with attention in its middle block."""
    from comfy.ldm.modules.attention import SpatialTransformer
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    network = model.get_model_object("diffusion_model")
    middle = getattr(network, "middle_block", None) or () if isinstance(network, UNetModel) else ()
    if not any(isinstance(module, SpatialTransformer) for module in middle):
        raise ValueError(
            "Attention guidance (SFERD) needs a UNet with attention in its middle block, as SD 1.x and SDXL have; "
            f"this model is a {type(model.model).__name__}, its network a {type(network).__name__}. Leave the node out."
        )
