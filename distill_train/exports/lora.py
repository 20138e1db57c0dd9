"""A peft adapter of the UNet as kohya's LoRA files have it, or merged into the weights."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ...files import CheckpointError, preview
from ...pipelines.layout import SDXL
from .base import Base, Shapes

_KEY = re.compile(r"(?:base_model\.model\.)?(?:unet\.)?(.+)\.lora_([AB])(?:\.\w+)?\.weight")


@dataclass(frozen=True)
class Pair:
    """The two factors at one layer: ``down`` [r, in, ...], ``up`` [out, r, ...]."""

    down: torch.Tensor
    up: torch.Tensor


def read_pairs(weights: Mapping[str, torch.Tensor], base: Base) -> dict[str, Pair]:
    """The adapter's factors by diffusers' module name. Raises CheckpointError for one without a place in the base."""
    halves: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in weights.items():
        match = _KEY.fullmatch(key)
        if not match:
            raise CheckpointError(f"{key} is no tensor of a peft LoRA; expected '<layer>.lora_A.weight' or lora_B")
        halves.setdefault(match[1], {})[match[2]] = value
    if homeless := [name for name in halves if f"{name}.weight" not in base.names]:
        raise CheckpointError(f"{base.path} has no layers {preview(homeless)} that the LoRA changes")
    if half := [name for name, pair in halves.items() if len(pair) != 2]:
        raise CheckpointError(f"the LoRA has only one factor for {preview(half)}")
    return {name: Pair(pair["A"], pair["B"]) for name, pair in halves.items()}


def kohya_name(module: str, base: Base) -> str:
    """Kohya's trainer names SD 1.x layers as diffusers does and SDXL's as the original layout, and its readers too."""
    if base.architecture is SDXL:
        module = base.names[f"{module}.weight"].removesuffix(".weight")
    return "lora_unet_" + module.replace(".", "_")


def kohya_tensors(pairs: Mapping[str, Pair], alpha: float, base: Base) -> dict[str, torch.Tensor]:
    """Tensors of a LoRA file; its readers scale with alpha / r."""
    tensors = {}
    for module, pair in pairs.items():
        name = kohya_name(module, base)
        tensors[f"{name}.lora_down.weight"] = pair.down
        tensors[f"{name}.lora_up.weight"] = pair.up
        tensors[f"{name}.alpha"] = torch.tensor(alpha)
    return tensors


def kohya_shapes(pairs: Mapping[str, Pair], base: Base) -> Shapes:
    """The shapes that the base's layers ask of those tensors."""
    shapes: Shapes = {}
    for module, pair in pairs.items():
        name, rank = kohya_name(module, base), len(pair.down)
        out, *inner = base.shapes[f"{module}.weight"]
        shapes[f"{name}.lora_down.weight"] = (rank, *inner)
        shapes[f"{name}.lora_up.weight"] = (out, rank, *[1] * (len(inner) - 1))
        shapes[f"{name}.alpha"] = ()
    return shapes


def merged(pairs: Mapping[str, Pair], alpha: float, base: Base) -> dict[str, torch.Tensor]:
    """The base UNet's weights, by diffusers' name, with ``alpha / r * up down`` added; changed ones in float32."""
    weights = base.unet()
    for module, pair in pairs.items():
        key = f"{module}.weight"
        change = pair.up.float().flatten(1) @ pair.down.float().flatten(1)
        if change.numel() != weights[key].numel():
            wanted, given = list(weights[key].shape), [list(pair.up.shape), list(pair.down.shape)]
            raise CheckpointError(f"the LoRA's factors {given} at {module} do not fit the base's {wanted}")
        weights[key] = weights[key].float() + alpha / len(pair.down) * change.view_as(weights[key])
    return weights
