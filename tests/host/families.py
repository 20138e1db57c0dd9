"""Small random models of the host's own network classes, one for each of the largest families, inside the host.

A state dict of the class's layout with few and narrow layers is loaded as a file's would be, so that the host finds
out by itself which family it is. Where it takes some width for granted, which would make the network large, its class
is built with a small configuration instead: `BUILT`. Text encoders are large, so texts are random numbers.
"""

import importlib
import math
from typing import NamedTuple

import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.supported_models
import comfyui_version
import torch


class Family(NamedTuple):
    """network: module and class of the host. config: its constructor's arguments. text: the width of its conditioning,
    pooled: of the vector beside it, 0 for none. image_model: what the host's detection calls the network."""

    network: str
    config: dict
    text: int
    pooled: int = 0
    image_model: str | None = None


_FLUX = {
    "in_channels": 16, "out_channels": 16, "vec_in_dim": 32, "context_in_dim": 64, "hidden_size": 128,
    "mlp_ratio": 4.0, "num_heads": 1, "depth": 2, "depth_single_blocks": 2, "axes_dim": [16, 56, 56], "theta": 10000,
    "patch_size": 2, "qkv_bias": True, "txt_ids_dims": [],
}  # fmt: skip
_FLUX2 = {
    "in_channels": 128, "out_channels": 128, "vec_in_dim": None, "context_in_dim": 96, "hidden_size": 128,
    "mlp_ratio": 3.0, "num_heads": 1, "depth": 1, "depth_single_blocks": 1, "axes_dim": [32] * 4, "theta": 2000,
    "patch_size": 1, "qkv_bias": False, "guidance_embed": False, "global_modulation": True, "mlp_silu_act": True,
    "ops_bias": False, "txt_ids_dims": [3],
}  # fmt: skip
# The depths of the transformers tell the host what it is, so it is the largest of all: 283 million weights.
_SDXL = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 1, 1], "transformer_depth": [0, 0, 2, 2, 10, 10], "transformer_depth_middle": 10,
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10], "num_heads": -1, "num_head_channels": 64,
    "use_spatial_transformer": True, "context_dim": 2048, "use_linear_in_transformer": True,
    "num_classes": "sequential", "adm_in_channels": 2816,
}  # fmt: skip
_SD3 = {
    "input_size": None, "patch_size": 2, "in_channels": 16, "out_channels": 16, "depth": 2, "adm_in_channels": 64,
    "qk_norm": "rms", "pos_embed_scaling_factor": None, "pos_embed_max_size": 32, "num_patches": 1024,
    "x_block_self_attn_layers": [],
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 64, "out_features": 128}},
}  # fmt: skip
_WAN = {
    "model_type": "t2v", "patch_size": (1, 2, 2), "in_dim": 16, "dim": 128, "ffn_dim": 256, "text_dim": 4096,
    "out_dim": 16, "num_heads": 1, "num_layers": 2,
}  # fmt: skip
_KREA2 = {
    "features": 128, "txtdim": 320, "heads": 1, "kvheads": 1, "layers": 2, "patch": 2, "channels": 16, "txtlayers": 3
}  # fmt: skip
_ZIMAGE = {
    "patch_size": 2, "in_channels": 16, "dim": 256, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 2,
    "n_kv_heads": 2, "axes_dims": [32, 48, 48], "axes_lens": [1536, 512, 512], "rope_theta": 256.0,
    "ffn_dim_multiplier": 8 / 3, "qk_norm": True, "cap_feat_dim": 64, "z_image_modulation": True, "time_scale": 1000.0,
    "pad_tokens_multiple": 32,
}  # fmt: skip

ALL = {
    "SDXL": Family("ldm.modules.diffusionmodules.openaimodel.UNetModel", _SDXL, text=2048, pooled=1280),
    "SD3": Family("ldm.modules.diffusionmodules.mmdit.MMDiT", _SD3, text=64, pooled=64),
    "Flux": Family("ldm.flux.model.Flux", _FLUX | {"guidance_embed": True}, 64, 32, "flux"),
    "FluxSchnell": Family("ldm.flux.model.Flux", _FLUX | {"guidance_embed": False}, 64, 32, "flux"),
    "Flux2": Family("ldm.flux.model.Flux", _FLUX2, text=96, image_model="flux2"),
    "Krea2": Family("ldm.krea2.model.SingleStreamDiT", _KREA2, text=3 * 320),
    "WAN21_T2V": Family("ldm.wan.model.WanModel", _WAN, text=4096),
    "ZImage": Family("ldm.lumina.model.NextDiT", _ZIMAGE, text=64, image_model="lumina2"),
}
# Z-Image is 3840 wide to the host; to 0.8.0 all of Flux's networks have 24 heads.
BUILT = {"ZImage"} | ({"Flux", "FluxSchnell", "Flux2"} if comfyui_version.__version__ == "0.8.0" else set())
ABSENT = [name for name in ALL if not hasattr(comfy.supported_models, name)]
CPU = torch.device("cpu")


def load(name):
    """A MODEL of a family that the host has."""
    family = ALL[name]
    if name in BUILT:
        config = getattr(comfy.supported_models, name)({"image_model": family.image_model, **family.config})
        config.set_inference_dtype(torch.float32, None)
        made = config.get_model({}, device=CPU)
        made.diffusion_model.load_state_dict(weights(made.diffusion_model))
        return comfy.model_patcher.ModelPatcher(made, CPU, CPU)
    return comfy.sd.load_diffusion_model_state_dict(weights(layout(name)))


def layout(name):
    """The network of a family without weights."""
    family = ALL[name]
    module, network = f"comfy.{family.network}".rsplit(".", 1)
    given = {"dtype": torch.float32, "device": "meta", "operations": comfy.ops.disable_weight_init}
    return getattr(importlib.import_module(module), network)(**family.config, **given)


def weights(network):
    """A state dict of a network's layout: random matrices that keep a signal's size, norms of one, small biases."""
    generator = torch.Generator().manual_seed(0)
    pool = torch.randn(1 << 23, generator=generator)  # drawn once, for drawing takes longer than sampling
    return {key: _weight(key, each.shape, pool, generator) for key, each in network.state_dict().items()}


def _weight(key, shape, pool, generator):
    if len(shape) < 2:
        return torch.full(shape, 1.0 if key.endswith(("weight", "scale")) else 0.02)
    size = shape.numel()
    start = int(torch.randint(len(pool) - size + 1, (), generator=generator))
    return pool[start : start + size].reshape(shape) * 0.7 / math.sqrt(size // shape[0])


def text(name, seed, entries=1):
    """Conditioning as the family's text encoder shapes it; one without a pooled vector says None."""
    family, generator = ALL[name], torch.Generator().manual_seed(seed)
    pooled = torch.randn(entries, family.pooled, generator=generator) if family.pooled else None
    return [[torch.randn(entries, 7, family.text, generator=generator), {"pooled_output": pooled}]]
