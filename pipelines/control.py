"""ControlNets of SD 1.x and SDXL: a file in diffusers' or the original layout, or a folder of diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..files import CheckpointError, fill, read_header
from ..files.student_file import BASE_PART
from .folder import load_network
from .folder_files import read_json

if TYPE_CHECKING:
    from diffusers import ControlNetModel, UNet2DConditionModel

ORIGINAL = "control_model."
_OTHERS = {
    "task_embedding": "a union of ControlNets",
    "lora_controlnet": "a Control-LoRA",
    "body.0.resnets.0.block1.weight": "a T2I-Adapter",
}


def check_control(path: Path) -> None:
    """Raise FileNotFoundError, or CheckpointError that says what it is instead; reads no weights."""
    if path.is_dir():
        named = read_json(path / "config.json").get("_class_name")
        if named != "ControlNetModel":
            raise CheckpointError(f"{path} is a {named or 'folder without a class name'}; expected a ControlNetModel")
        return
    keys = {key.removeprefix(ORIGINAL) for key in read_header(path).shapes}
    if any(key.startswith(tuple(BASE_PART.values())) for key in keys):
        raise CheckpointError(
            f"{path} holds what trained of its base, too; 'understudy export' makes a ControlNet and another file of it"
        )
    other = next((what for key, what in _OTHERS.items() if key in keys), None)
    if other is None and not keys & {"zero_convs.0.0.weight", "controlnet_down_blocks.0.weight"}:
        other = "no ControlNet"
    if other:
        raise CheckpointError(
            f"{path} is {other}; expected a ControlNet of SD 1.x or SDXL, in diffusers' or the original layout"
        )


def load_control(path: Path, unet: UNet2DConditionModel, dtype: torch.dtype) -> ControlNetModel:
    """The ControlNet that steers ``unet``, of which a bare file's has the build.

    Raises as :func:`check_control`, and CheckpointError for one of another architecture.
    """
    from diffusers import ControlNetModel
    from safetensors.torch import load_file

    check_control(path)
    if path.is_dir():
        network = load_network(ControlNetModel, path, dtype)
        _require_width(path, network.config.cross_attention_dim, unet)
        return network
    weights = control_weights(load_file(path), unet.config)
    wide = next((value.shape[1] for key, value in weights.items() if key.endswith("attn2.to_k.weight")), None)
    _require_width(path, wide, unet)
    hints = "controlnet_cond_embedding"
    steps = [key for key in weights if key.startswith(f"{hints}.blocks.") and key.endswith(".weight")]
    channels = [weights[f"{hints}.conv_in.weight"].shape[0]]
    channels += [weights[f"{hints}.blocks.{place}.weight"].shape[0] for place in range(1, len(steps), 2)]
    with torch.device("meta"):
        network = ControlNetModel.from_unet(
            unet, conditioning_embedding_out_channels=tuple(channels), load_weights_from_unet=False
        )
    return fill(path, network, weights, dtype)


def control_weights(tensors: Mapping[str, torch.Tensor], config: dict) -> dict[str, torch.Tensor]:
    """A file's tensors by diffusers' names; of a whole checkpoint's those of its ControlNet."""
    from diffusers.loaders.single_file_utils import DIFFUSERS_TO_LDM_MAPPING, convert_controlnet_checkpoint

    keys = [key for key in tensors if key.startswith(ORIGINAL)] or list(tensors)
    weights = {key.removeprefix(ORIGINAL): tensors[key] for key in keys}
    converted = convert_controlnet_checkpoint(weights, config)
    if converted is not weights:  # SDXL's embedding of sizes, which diffusers' converter leaves out
        sizes = DIFFUSERS_TO_LDM_MAPPING["controlnet"]["addition_embed_type"]
        converted |= {key: weights[name] for key, name in sizes.items() if name in weights}
    return {key: value for key, value in converted.items() if value is not None}


def _require_width(path: Path, width: int | None, unet: UNet2DConditionModel) -> None:
    if width != unet.config.cross_attention_dim:
        raise CheckpointError(
            f"{path} reads texts of {width} numbers a token, the model that it is to steer "
            f"{unet.config.cross_attention_dim}: it is another architecture's ControlNet"
        )
