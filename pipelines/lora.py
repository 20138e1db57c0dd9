"""LoRA files in the formats of kohya's trainer, diffusers and peft, merged into a UNet."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ..files import CheckpointError, preview, read_header


def read_lora(path: str | Path) -> None:
    """Raise FileNotFoundError, or CheckpointError for a file that is not a LoRA of a UNet alone; reads no weights."""
    keys = read_header(path).shapes.keys()
    if not any("lora" in key for key in keys):
        raise CheckpointError(f"{path} is not a LoRA; its tensors begin with {preview(keys)}")
    if text := [key for key in keys if key.startswith(("lora_te", "text_encoder"))]:
        raise CheckpointError(f"{path} also changes text encoders ({preview(text)}); expected a LoRA of the UNet alone")


def merge_lora(unet: nn.Module, path: str | Path) -> None:
    """Add a LoRA to the UNet's weights. Raises CheckpointError if part of it finds no place in this UNet."""
    from diffusers import StableDiffusionXLPipeline
    from safetensors.torch import load_file

    read_lora(path)
    # The SDXL class also maps the block numbers of original SDXL layouts; SD 1.x files pass through it unchanged.
    pipeline = StableDiffusionXLPipeline
    try:
        weights, alphas = pipeline.lora_state_dict(load_file(path), unet_config=unet.config)
        found = {key for key in weights if "lora" in key}
        pipeline.load_lora_into_unet(weights, network_alphas=alphas, unet=unet, adapter_name="student")
    except (ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not fit this student: {str(error).splitlines()[0]}") from error
    placed = {name for name, _ in unet.named_parameters() if "lora_" in name}
    if len(placed) != len(found):
        raise CheckpointError(f"{path}: {len(placed)} of its {len(found)} tensors have a place in this student's UNet")
    unet.fuse_lora(adapter_names=["student"])
    unet.unload_lora()
