"""Random checkpoints of the published files' own sizes, in their layouts.

CLIPs and SigLIP are float16, as the compressed files are; ImageReward and the heads are float32.
"""

import math

import torch
from safetensors.torch import save_file

from . import small_files

VIT_H = {
    "embed_dim": 1024,
    "vision": {"layers": 32, "width": 1280, "head_width": 80, "patch_size": 14, "image_size": 224},
    "text": {"layers": 24, "width": 1024, "heads": 16},
}
FAMILIES = ("imagereward", "hpsv2.1", "pickscore", "clipscore", "laion-aesthetic-v2", "aesthetic-v2.5")


def pictures(count, side=512):
    """Smooth pictures ``[count, 3, side, side]``, exact in 8 bits, that networks tell apart."""
    coarse = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)
    return smooth.mul(255).round().div(255)


def shapes_of_open_clip(**sizes):
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in small_files.open_clip_network(**sizes).state_dict().items()}


def shapes_of_clip(width, layers, heads, inner, projection, text):
    from transformers import CLIPConfig, CLIPModel

    vision = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
    }
    shared = {"projection_dim": projection}
    with torch.device("meta"):
        config = CLIPConfig(text_config=text | shared, vision_config=vision | shared | {"patch_size": 14}, **shared)
        return {key: tuple(value.shape) for key, value in CLIPModel(config).state_dict().items()}


def so400m_tower():
    from transformers import SiglipVisionConfig, SiglipVisionModel

    config = SiglipVisionConfig(
        hidden_size=1152,
        intermediate_size=4304,
        num_hidden_layers=27,
        num_attention_heads=16,
        image_size=384,
        patch_size=14,
    )
    return SiglipVisionModel(config)


def shapes_of_siglip():
    with torch.device("meta"):
        state = so400m_tower().state_dict()
    return {f"vision_model.{key.removeprefix('vision_model.')}": tuple(value.shape) for key, value in state.items()}


CLIP_H = {"width": 1280, "layers": 32, "heads": 16, "inner": 5120, "projection": 1024}
CLIP_H["text"] = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
CLIP_L = {"width": 1024, "layers": 24, "heads": 16, "inner": 4096, "projection": 768}
CLIP_L["text"] = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}


def random_tensors(shapes):
    """Weights that keep the variance of what they are applied to, so that scores are finite and differ.

    CLIP's logit scale is the published ones' own, ln 100, in float32.
    """
    g = torch.Generator().manual_seed(0)
    tensors = {}
    for key, shape in shapes.items():
        fan_in = math.prod(shape[1:]) or 1
        value = torch.randn(shape, generator=g, dtype=torch.float32)
        if len(shape) == 1 or shape == ():
            value = 1 + 0.1 * value if "weight" in key else 0.1 * value
        else:
            value = value / math.sqrt(fan_in) if "embedding" not in key else 0.5 * value
        tensors[key] = value.half() if key != "logit_scale" else torch.tensor(math.log(100))
    return tensors


def write(family, folder):
    """(file, encoder or None) of a full-size random oracle."""
    path = folder / f"{family}.safetensors"
    if family == "imagereward":
        tensors = small_files.image_reward_tensors(
            vision=1024, patch=16, image=224, text=768, inner=3072, vision_layers=24, text_layers=12
        )
        head = small_files.head_tensors("mlp.layers.", 768, (1024, 128, 64, 16, 1))
        save_file({key: value.contiguous() for key, value in (tensors | head).items()}, path)
        return path, None
    if family == "hpsv2.1":
        save_file(random_tensors(shapes_of_open_clip(**VIT_H)), path)
        return path, None
    if family in ("pickscore", "clipscore"):
        save_file(random_tensors(shapes_of_clip(**(CLIP_H if family == "pickscore" else CLIP_L))), path)
        return path, None
    encoder = folder / "encoder.safetensors"
    if family == "laion-aesthetic-v2":
        save_file(random_tensors(shapes_of_clip(**CLIP_L)), encoder)
        head = small_files.head_tensors("layers.", 768, (1024, 128, 64, 16, 1))
    else:
        save_file(random_tensors(shapes_of_siglip()), encoder)
        head = small_files.head_tensors("scoring_head.", 1152, (1024, 128, 64, 16, 1), (0, 2, 4, 6, 8))
    return small_files.write(head, path), encoder
