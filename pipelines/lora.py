"""LoRA files in the layouts that ComfyUI reads: every tensor is placed by name and applied, or the file is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..files import CheckpointError, preview, read_header
from .layout import GUIDANCE_INPUT, original_unet_names

# What follows a layer's name: of kohya's trainer, of diffusers since its first LoRAs, and of peft, which puts an
# adapter's name in between. DoRA's magnitudes are a `dora_scale` or a `lora_magnitude_vector`.
_PARTS = {
    "up": r"\.lora_up\.weight|[._]lora\.up\.weight|\.lora_linear_layer\.up\.weight|\.lora_B(\.\w+)?\.weight|\.lora_B",
    "down": r"\.lora_down\.weight|[._]lora\.down\.weight|\.lora_linear_layer\.down\.weight"
    r"|\.lora_A(\.\w+)?\.weight|\.lora_A",
    "mid": r"\.lora_mid\.weight",
    "alpha": r"\.alpha",
    "magnitude": r"\.dora_scale",
    "magnitudes": r"\.lora_magnitude_vector(\.\w+)?(\.weight)?",
}
_PATTERN = re.compile(r"(?P<layer>.+?)(?:" + "|".join(f"(?P<{part}>{form})" for part, form in _PARTS.items()) + ")")
# What may stand in the place of a low-rank change.
_OTHERS = {
    "a LoHa": r"\.hada_",
    "a LoKr": r"\.lokr_",
    "OFT or BOFT": r"\.oft_",
    "a GLoRA": r"\.[ab][12]\.weight$",
    "whole differences": r"\.(diff|diff_b|w_norm|b_norm|set_weight)$",
    "a LoRA with biases": r"\.lora_(B(\.\w+)?|up)\.bias$",
}
_TEXT = ("lora_te", "lora_prior_te", "text_encoder", "text_model.")
_ELSEWHERE = "merge it in ComfyUI (Load LoRA, then Save Checkpoint) and name that checkpoint"


@dataclass(frozen=True)
class LoraFile:
    """A LoRA's tensors by the file's name of a layer and by their part in it; alpha: of layers that do not say it."""

    path: Path
    layers: dict[str, dict[str, str]]
    alpha: float | None


@dataclass(frozen=True)
class Change:
    """What a LoRA changes one layer by: ``alpha / r * up down``.

    up [out, r, ...], down [r, in, ...]. mid [r, r, ...]: of a convolution in Tucker's form, between the two. magnitude:
    of DoRA, the length of each output's weights ([out] or [out, 1, ...]) or of each input's ([1, in, ...]).
    """

    up: Tensor
    down: Tensor
    alpha: float
    mid: Tensor | None = None
    magnitude: Tensor | None = None

    @property
    def rank(self) -> int:
        return len(self.down)

    def applied(self, weight: Tensor) -> Tensor:
        """``weight`` [out, in, ...] with the change, in float32.

        With magnitudes m it is ``m W' / |W'|`` of the changed weight W' (DoRA, Liu et al. 2024, eq. 5), as LyCORIS and
        peft train it; where there is one length for each output, ComfyUI divides by that of the unchanged weight.
        Raises ValueError where shapes do not fit.
        """

        def at_hand(factor: Tensor) -> Tensor:
            return factor.to(weight.device, torch.float32)

        up, down = at_hand(self.up).flatten(1), at_hand(self.down).flatten(1)
        if self.mid is not None and self.mid.shape[:2] == (up.shape[1], len(down)):
            down = torch.einsum("mn...,nj->mj...", at_hand(self.mid), down).flatten(1)
        if (len(up), up.shape[1], down.shape[1]) != (len(weight), len(down), weight[0].numel()):
            given = [list(factor.shape) for factor in (self.up, self.mid, self.down) if factor is not None]
            raise ValueError(f"its factors {given} do not fit {list(weight.shape)}")
        changed = weight.float() + self.alpha / self.rank * (up @ down).view_as(weight)
        if self.magnitude is None:
            return changed
        axis = 0 if len(self.magnitude) == len(weight) else 1
        length = torch.linalg.vector_norm(changed, dim=[d for d in range(weight.ndim) if d != axis], keepdim=True)
        if self.magnitude.numel() != length.numel():
            raise ValueError(f"its magnitudes {list(self.magnitude.shape)} do not fit {list(weight.shape)}")
        return changed * at_hand(self.magnitude).view_as(length) / length.clamp(min=torch.finfo(length.dtype).tiny)


def read_lora(path: str | Path, prefix: str = "") -> LoraFile:
    """What a LoRA of a UNet holds, by its header. prefix: begins the names of its tensors, where there are others.

    Raises FileNotFoundError, or CheckpointError with the names that are not understood.
    """
    path = Path(path)
    header = read_header(path)
    header = header._replace(shapes={key: shape for key, shape in header.shapes.items() if key.startswith(prefix)})
    if text := [key for key in header.shapes if key.startswith(_TEXT)]:
        raise CheckpointError(
            f"{path} also changes text encoders ({preview(text)}); expected a LoRA of the UNet alone: {_ELSEWHERE}"
        )
    for kind, mark in _OTHERS.items():
        if found := [key for key in header.shapes if re.search(mark, key)]:
            raise CheckpointError(f"{path} holds {kind} ({preview(found)}); expected a LoRA or a DoRA: {_ELSEWHERE}")
    matches = {key: _PATTERN.fullmatch(key) for key in header.shapes}
    if not any(matches.values()):
        raise CheckpointError(f"{path} is not a LoRA; its tensors begin with {preview(matches)}")
    if unknown := [key for key, match in matches.items() if not match]:
        raise CheckpointError(f"{path} is a LoRA with tensors that none of them has: {preview(unknown)}")
    layers: dict[str, dict[str, str]] = {}
    for key, match in matches.items():
        part = next(part for part in _PARTS if match[part] is not None)
        if twice := layers.setdefault(match["layer"], {}).get(part):
            raise CheckpointError(f"{path} holds two LoRAs: {twice} and {key} are of one layer")
        layers[match["layer"]][part] = key
    if half := [key for parts in layers.values() if not {"up", "down"} <= parts.keys() for key in parts.values()]:
        raise CheckpointError(f"{path} is not complete: {preview(half)} lack the other tensors of their layers")
    return LoraFile(path, layers, _stated_alpha(path, header.metadata))


def layer_names(names: Mapping[str, str]) -> dict[str, str]:
    """Diffusers' name of each layer of a UNet, under every name by which LoRA files know it.

    names: the original layout's name of each of its tensors (:func:`original_unet_names`).
    """
    known = {}
    for key, original in names.items():
        module, original = key.removesuffix(".weight"), original.removesuffix(".weight")
        if not key.endswith(".weight"):
            continue
        # Diffusers' first LoRAs were of attention processors, which had no list for their output.
        dotted = {module, module.replace(".to_", ".processor.to_").removesuffix(".0" * module.endswith("to_out.0"))}
        for prefix in ("", "unet.", "base_model.model.", "base_model.model.unet.", "unet.base_model.model."):
            known |= dict.fromkeys((prefix + name for name in dotted), module)
        flat = {module.replace(".", "_"), original.replace(".", "_")}
        known |= {prefix + name: module for prefix in ("lora_unet_", "lycoris_") for name in flat}
        known |= {f"diffusion_model.{original}": module}
    return known


def lora_changes(lora: LoraFile, names: Mapping[str, str], what: str = "this student's UNet") -> dict[str, Change]:
    """The changes of a LoRA by diffusers' name of the layer; ``names`` as for :func:`layer_names`.

    Raises CheckpointError, with how many there are and the first few, for tensors that have no place in the network.
    """
    from safetensors.torch import load_file

    known = layer_names(names)
    if homeless := [key for name, parts in lora.layers.items() if name not in known for key in parts.values()]:
        total = sum(map(len, lora.layers.values()))
        raise CheckpointError(
            f"{lora.path}: {len(homeless)} of its {total} tensors have no place in {what}: {preview(homeless)}"
        )
    weights, changes, firsts = load_file(lora.path), {}, {}
    for name, parts in lora.layers.items():
        module = known[name]
        if module in changes:
            raise CheckpointError(f"{lora.path} holds two LoRAs: {firsts[module]} and {name} are one layer")
        firsts[module] = name
        given = {part: weights[key] for part, key in parts.items()}
        if "alpha" in given and given["alpha"].numel() != 1:
            shape = list(given["alpha"].shape)
            raise CheckpointError(f"{lora.path}: its alpha {parts['alpha']} is {shape}, expected one number")
        alpha = float(given["alpha"]) if "alpha" in given else lora.alpha
        # Peft has one magnitude for each output, whatever the shape it keeps them in.
        magnitude = given["magnitudes"].flatten() if "magnitudes" in given else given.get("magnitude")
        rank = len(given["down"])
        changes[module] = Change(
            given["up"], given["down"], rank if alpha is None else alpha, given.get("mid"), magnitude
        )
    return changes


def merge_lora(unet: nn.Module, path: str | Path) -> None:
    """Apply a LoRA to the UNet's weights. Raises CheckpointError if any of it finds no place or does not fit."""
    parameters = dict(unet.named_parameters())
    names = original_unet_names((key for key in parameters if key != GUIDANCE_INPUT), unet.config.layers_per_block)
    with torch.no_grad():
        for module, change in lora_changes(read_lora(path), names).items():
            weight = parameters[f"{module}.weight"]
            try:
                weight.copy_(change.applied(weight))
            except ValueError as error:
                raise CheckpointError(f"{path} does not fit this student: {module}: {error}") from error


def _stated_alpha(path: Path, metadata: Mapping[str, str]) -> float | None:
    """What diffusers' metadata, or peft's file beside the weights, say of an alpha; the tensors do not there."""
    if metadata.get("keys") == "peft":  # of a student by an earlier pack
        return float(metadata["alpha"])
    texts, beside = [metadata.get("lora_adapter_metadata", "{}")], path.with_name("adapter_config.json")
    if path.name == "adapter_model.safetensors" and beside.is_file():
        texts.append(beside.read_text(encoding="utf-8"))
    try:
        said = {key: value for text in texts for key, value in json.loads(text).items()}
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: what is said of its alpha is no object of JSON: {error}") from error
    said = {key.removeprefix("unet."): value for key, value in said.items()}
    if odd := [key for key in ("use_rslora", "alpha_pattern") if said.get(key)]:
        raise CheckpointError(f"{path} has another scale for each layer ({odd[0]}); expected one alpha: {_ELSEWHERE}")
    alpha = said.get("lora_alpha")
    if not isinstance(alpha, (int, float, type(None))):
        raise CheckpointError(f"{path}: what is said of its alpha is {alpha!r}, expected a number")
    return alpha
