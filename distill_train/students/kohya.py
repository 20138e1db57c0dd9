"""A LoRA of the UNet as kohya's files have it."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from ...pipelines.layout import GUIDANCE_INPUT, original_unet_names
from ...pipelines.lora import Change
from ..teachers.architectures import ARCHITECTURES, Facts
from .adapters import Pair

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Layers:
    """The tensors of a UNet that a LoRA is for.

    names: the original layout's name of each, by diffusers' name. shapes: by diffusers' name. original_names: whether
    kohya's trainer names layers as the original layout does, and its readers too; else it is as diffusers does.
    """

    names: Mapping[str, str]
    shapes: Shapes
    original_names: bool

    @classmethod
    def of(cls, unet: nn.Module, architecture: Facts) -> "Layers":
        """Those of diffusers' UNet, without an adapter."""
        weights = {key: value for key, value in unet.state_dict().items() if key != GUIDANCE_INPUT}
        shapes = {key: tuple(value.shape) for key, value in weights.items()}
        return cls(original_unet_names(shapes, unet.config.layers_per_block), shapes, architecture.original_names)

    def kohya(self, module: str) -> str:
        """Kohya's name of a layer."""
        name = self.names[f"{module}.weight"].removesuffix(".weight") if self.original_names else module
        return "lora_unet_" + name.replace(".", "_")


def adapter_changes(factors: Mapping[str, Pair], alpha: float) -> dict[str, Change]:
    """What an adapter's factors, by diffusers' name of the layer, change in it."""
    return {name: Change(pair.up, pair.down, alpha) for name, pair in factors.items()}


def kohya_tensors(changes: Mapping[str, Change], layers: Layers) -> dict[str, torch.Tensor]:
    """Tensors of a LoRA file; its readers scale with alpha / r."""
    tensors = {}
    for module, change in changes.items():
        name = layers.kohya(module)
        tensors[f"{name}.lora_down.weight"] = change.down
        tensors[f"{name}.lora_up.weight"] = change.up
        tensors[f"{name}.alpha"] = torch.tensor(change.alpha)
    return tensors


def kohya_shapes(changes: Mapping[str, Change], layers: Layers) -> Shapes:
    """The shapes that the UNet's layers ask of those tensors."""
    shapes: Shapes = {}
    for module, change in changes.items():
        name = layers.kohya(module)
        out, *inner = layers.shapes[f"{module}.weight"]
        shapes[f"{name}.lora_down.weight"] = (change.rank, *inner)
        shapes[f"{name}.lora_up.weight"] = (out, change.rank, *[1] * (len(inner) - 1))
        shapes[f"{name}.alpha"] = ()
    return shapes


def lora_metadata(base: str, rank: int, alpha: float) -> dict[str, str]:
    """Entries by which A1111 knows which checkpoints a LoRA fits. base: its architecture, as `Teacher.kind`."""
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": f"{alpha:g}",
        "ss_base_model_version": ARCHITECTURES[base].kohya,
    }
