"""SD 1.x and SDXL single-file checkpoints, offline: diffusers' converters, our configurations, strict loading."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ..files import Header, fill, read_header
from ..oracles.clip_tokenizer import clip_tokenizer
from ..samplers.denoisers import scaled_linear
from .layout import Architecture, architecture_of, text_config, unet_config, vae_config
from .stable_diffusion import Components, TextEncoder


def read_single_file(path: str | Path) -> tuple[Architecture, Header]:
    """The architecture and header of a file. Raises FileNotFoundError or CheckpointError; reads no weights."""
    header = read_header(path)
    return architecture_of(path, header.shapes), header


def load_single_file(path: str | Path, dtype: torch.dtype) -> Components:
    """Every network of a checkpoint file. Raises CheckpointError for tensors missing from it or of another shape."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.loaders.single_file_utils import (
        convert_ldm_clip_checkpoint,
        convert_ldm_unet_checkpoint,
        convert_ldm_vae_checkpoint,
        convert_open_clip_checkpoint,
    )
    from safetensors.torch import load_file
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    architecture, header = read_single_file(path)
    weights = load_file(path)
    config = unet_config(architecture, header.shapes)
    unet = _filled(path, UNet2DConditionModel, config, convert_ldm_unet_checkpoint(weights, config), dtype)
    config = vae_config(architecture, header.shapes)
    vae = _filled(path, AutoencoderKL, config, convert_ldm_vae_checkpoint(weights, config), torch.float32)
    texts = []
    for layout in architecture.texts:
        config = CLIPTextConfig(**text_config(layout, header.shapes))
        kind = CLIPTextModelWithProjection if layout.open_clip else CLIPTextModel
        with torch.device("meta"):
            network = kind(config)
        if layout.open_clip:
            converted = convert_open_clip_checkpoint(network, weights, prefix=layout.prefix)
        else:
            mine = {key: value for key, value in weights.items() if key.startswith(layout.prefix)}
            converted = convert_ldm_clip_checkpoint(mine)
        # `CLIPTextModel` lost its inner "text_model" in transformers 5.6.
        if not any(key.startswith("text_model.") for key in network.state_dict()):
            converted = {key.removeprefix("text_model."): value for key, value in converted.items()}
        texts.append(TextEncoder(fill(path, network, converted, dtype, adopt=True), clip_tokenizer(layout.pad_token)))
    return Components(
        unet=unet,
        vae=vae,
        texts=tuple(texts),
        alphas_cumprod=_alphas_cumprod(header),
        prediction=_prediction(header),
        empty_negative_is_zero=architecture.empty_negative_is_zero,
    )


def _prediction(header: Header) -> str:
    """ "v" where the file says so: the empty tensor `v_pred` (NoobAI and later), or trainers' metadata; else "eps"."""
    said = header.metadata.get("modelspec.prediction_type", "")
    return "v" if "v_pred" in header.shapes or said.startswith("v") else "eps"


def _alphas_cumprod(header: Header) -> torch.Tensor:
    if "ztsnr" in header.shapes:
        from .stable_diffusion import zero_terminal_snr

        return zero_terminal_snr(scaled_linear())
    return scaled_linear()


def _filled(path, kind, config: dict, converted: dict[str, torch.Tensor], dtype: torch.dtype) -> nn.Module:
    with torch.device("meta"):
        network = kind(**config)
    return fill(path, network, converted, dtype, adopt=True)
