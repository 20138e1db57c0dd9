"""Which GELU a CLIP was trained with: no shape tells, and the wrong one makes other scores without a word."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import CheckpointError
from .tensors import TensorFile

if TYPE_CHECKING:
    import torch

ACTIVATIONS = ("gelu", "quick_gelu")
# OpenAI trained ViT-B and ViT-L (these widths of the image tower) with x * sigmoid(1.702 x); most others use GELU.
QUICK_GELU_WIDTHS = (768, 1024)
OPENAI_ONLY = {"input_resolution", "context_length", "vocab_size"}  # numbers that its own files also hold
SIZES = ("hidden_size", "num_hidden_layers", "patch_size", "projection_dim")  # of the image tower, in any config
WEIGHTS = {".safetensors", ".pt", ".pth", ".bin"}
HUB_NAMES = {"model", "pytorch_model", "open_clip_model", "open_clip_pytorch_model"}  # a repository's, of one model


def activation(file: TensorFile, tower: Mapping[str, int]) -> str:
    """ "gelu" or "quick_gelu" for a CLIP whose image tower has the ``SIZES`` in ``tower``.

    The file's metadata (``hidden_act``) decides, then numbers that only OpenAI's own files hold, then a config beside
    it, transformers' or OpenCLIP's, then, in OpenCLIP's layout, "openai" or "quickgelu" in its name, then the layout
    and the width. Raises CheckpointError for an activation that no CLIP has, and for a config that is damaged or of
    another model.
    """
    name, width = file.path.name.lower(), tower["hidden_size"]
    if "hidden_act" in file.metadata or OPENAI_ONLY & file.keys():
        found = _by_content(file, width)
    elif (beside := _beside(file, tower)) is not None:
        found = beside
    elif in_openai_layout(file) and ("openai" in name or "quickgelu" in name):
        found = "quick_gelu"
    else:
        found = _by_content(file, width)
    if found not in ACTIVATIONS:
        raise CheckpointError(f"{file.path}: its activation is said to be {found}; expected {' or '.join(ACTIVATIONS)}")
    return found


def in_openai_layout(file: Mapping) -> bool:
    return "visual.conv1.weight" in file


def activation_of(network: torch.nn.Module) -> str | None:
    """The activation that a CLIP, or an aesthetic predictor's, was built with; None if ``network`` holds no CLIP."""
    config = _vision_config(network)
    return config.hidden_act if "clip" in getattr(config, "model_type", "") else None


def identity(file: TensorFile, fingerprint: str, network: torch.nn.Module) -> str:
    """``fingerprint``, or another one where a config or the name of a CLIP's file make other scores of its bytes."""
    found = activation_of(network)
    if found is None or found == _by_content(file, _vision_config(network).hidden_size):
        return fingerprint
    return hashlib.sha256(f"{fingerprint} {found}".encode()).hexdigest()


def _vision_config(network: torch.nn.Module):
    config = getattr(getattr(network, "tower", network), "config", None)
    return getattr(config, "vision_config", config)


def _by_content(file: TensorFile, width: int) -> str:
    if "hidden_act" in file.metadata:
        return file.metadata["hidden_act"]
    if in_openai_layout(file):
        return "quick_gelu" if OPENAI_ONLY & file.keys() else "gelu"
    return "quick_gelu" if width in QUICK_GELU_WIDTHS else "gelu"


def _beside(file: TensorFile, tower: Mapping[str, int]) -> str | None:
    """What a config of the file's own name says, or the bare one of a folder that holds no other model."""
    path = file.path
    for own in (path.with_suffix(".json"), path.with_suffix(".config.json")):
        if (config := _read_config(own)) is not None:
            sizes, found = config
            if wrong := [key for key in SIZES if sizes[key] != tower[key]]:
                raise CheckpointError(
                    f"{own} is not the config of {path.name}: its {wrong[0]} is {sizes[wrong[0]]}, the tensors' is "
                    f"{tower[wrong[0]]}; remove it, or put the model's own there"
                )
            return found
    weights = [other for other in path.parent.iterdir() if other.suffix in WEIGHTS]
    if len(weights) > 1 and not {other.stem for other in weights} <= HUB_NAMES:
        return None  # it may be any of theirs, and different models have the same sizes
    config = _read_config(path.with_name("open_clip_config.json" if in_openai_layout(file) else "config.json"))
    return config[1] if config is not None and all(config[0][key] == tower[key] for key in SIZES) else None


def _read_config(path: Path) -> tuple[dict, str] | None:
    """(``SIZES``, activation) of a CLIP's config, transformers' or OpenCLIP's; None for any other file, or none."""
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(config, dict):
        return None
    # What a config leaves out has its library's default.
    if str(config.get("model_type", "")).startswith("clip"):
        vision = config.get("vision_config") or config
        sizes = vision.get("hidden_size", 768), vision.get("num_hidden_layers", 12), vision.get("patch_size", 32)
        sizes = *sizes, config.get("projection_dim", 512)
        return dict(zip(SIZES, sizes, strict=True)), vision.get("hidden_act", "quick_gelu")
    clip = config.get("model_cfg", config)
    if not isinstance(clip, dict) or not isinstance(clip.get("vision_cfg"), dict):
        return None
    vision = clip["vision_cfg"]
    sizes = vision.get("width", 768), vision.get("layers", 12), vision.get("patch_size", 16), clip.get("embed_dim")
    return dict(zip(SIZES, sizes, strict=True)), "quick_gelu" if clip.get("quick_gelu") else "gelu"
