"""Tensors of a checkpoint that ComfyUI reads by another name or in another form, brought to the original layout.

The same rules as the host's: SD 1.x text encoders without ``text_model.``, autoencoders under diffusers' names (the old
ones of its attention, too), what trainers leave beside a text encoder, weights in eight bits with their scales.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

import torch

from ..files import CheckpointError, Header
from .layout import SD1, SDXL, VAE

Names = dict[str, str]

_TEXT = SD1.texts[0].prefix
_OPEN_CLIP = SDXL.texts[1].prefix
_TRANSPOSED = f"{_OPEN_CLIP}text_projection.weight"
_UNUSED = {f"{text.prefix}{key}" for text in (SD1.texts[0], SDXL.texts[0]) for key in ("text_projection.weight",)} | {
    f"{prefix}logit_scale" for prefix in ("cond_stage_model.", _TEXT, "conditioner.embedders.0.", SDXL.texts[0].prefix)
}
# Beside a weight in eight bits: of the host's first layout and of its present one.
_SCALES, _MARKS = (".scale_weight", ".weight_scale"), (".scale_input", ".input_scale", ".comfy_quant", "scaled_fp8")
_ATTENTION = {"group_norm": "norm", "query": "q", "to_q": "q", "key": "k", "to_k": "k", "value": "v", "to_v": "v"}
_ATTENTION |= {"proj_attn": "proj_out", "to_out.0": "proj_out"}
EIGHT_BITS = ("float8_e4m3fn", "float8_e5m2")


def original_names(keys: Iterable[str]) -> Names:
    """The original layout's name of each tensor that a checkpoint's networks are made of, by the file's own."""
    keys = [key for key in keys if not key.endswith(_SCALES + _MARKS) and key not in _UNUSED]
    named = {key: key for key in keys}
    for key in keys:
        if key.startswith(_TEXT) and not key.startswith(f"{_TEXT}text_model."):
            named[key] = f"{_TEXT}text_model.{key.removeprefix(_TEXT)}"
    named |= dict.fromkeys({_TRANSPOSED} & named.keys(), _TRANSPOSED.removesuffix(".weight"))
    return named | original_vae_names(key for key in keys if key.startswith(VAE))


def original_vae_names(keys: Iterable[str]) -> Names:
    """The same of an autoencoder alone, with or without ``VAE`` before its names."""
    keys = list(keys)
    levels = {match[1] for key in keys if (match := re.search(r"decoder\.up_blocks\.(\d+)\.", key))}
    return {key: _vae_name(key, len(levels)) if levels else key for key in keys}


def _vae_name(key: str, levels: int) -> str:
    def up(match: re.Match) -> str:
        return f"up.{levels - 1 - int(match[1])}.{'block' if match[2] == 'resnets' else 'upsample'}"

    key = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    key = re.sub(r"mid_block\.resnets\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}", key)
    key = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", key)
    key = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", key)
    key = re.sub(r"up_blocks\.(\d+)\.(resnets|upsamplers\.0)", up, key)
    head, found, rest = key.partition("mid_block.attentions.0.")
    name, _, kind = rest.rpartition(".")
    return f"{head}mid.attn_1.{_ATTENTION.get(name, name)}.{kind}" if found else key


def original_shape(key: str, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a tensor in the original layout; there the autoencoder's attention is made of 1x1 convolutions.

    key: the file's name of it, name: that of the original layout, shape: in the file.
    """
    if key == _TRANSPOSED:
        return shape[::-1]
    if len(shape) == 2 and re.search(r"\.attn_1\.(q|k|v|proj_out)\.weight$", name):
        return (*shape, 1, 1)
    return shape


def original_tensor(key: str, name: str, read) -> torch.Tensor:
    """A tensor in the original layout. read: gives a tensor of the file by its name there, or None."""
    tensor = read(key)
    if key == _TRANSPOSED:
        return tensor.T.contiguous()
    scales = [scale for end in _SCALES if (scale := read(key.removesuffix(".weight") + end)) is not None]
    if key.endswith(".weight") and scales:
        tensor = tensor.float() * scales[0].float().reshape(-1, *[1] * (tensor.ndim - 1))
    return tensor.reshape(original_shape(key, name, tuple(tensor.shape)))


def require_readable(path, header: Header, read) -> None:
    """Raises CheckpointError, naming the first layer, for weights in bits that only the host's kernels understand."""
    try:
        layers: Mapping[str, dict] = json.loads(header.metadata.get("_quantization_metadata", "{}")).get("layers", {})
        marked = {
            key.removesuffix(".comfy_quant"): json.loads(bytes(read(key).tolist()))
            for key in header.shapes
            if key.endswith(".comfy_quant")
        }
        formats = {layer: said.get("format") for layer, said in {**layers, **marked}.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path}: what it says of its quantised layers is not understood: {error}") from error
    for layer, said in formats.items():
        if said not in EIGHT_BITS:
            raise CheckpointError(f"{path} is quantised as {said} ({layer}); expected float8 or plain weights")
