"""CLIPScore: 100 times the cosine of CLIP's image and text embeddings (Hessel et al. 2021, eq. 1, not clipped at 0)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn import functional as F

from ..files import CheckpointError, fill, read_header, sha256
from .base import Oracle

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

# OpenAI trained ViT-B and ViT-L (these widths of the image tower) with x * sigmoid(1.702 x); everyone later used GELU.
QUICK_GELU_WIDTHS = (768, 1024)


def recognises(keys: set[str], metadata: dict[str, str]) -> bool:
    """A CLIP in Hugging Face's layout, both towers and both projections."""
    return {
        "logit_scale",
        "text_projection.weight",
        "visual_projection.weight",
        "text_model.embeddings.token_embedding.weight",
        "vision_model.embeddings.patch_embedding.weight",
    } <= keys


def load(path: str | Path, device="cpu", dtype: torch.dtype | None = None) -> ClipScore:
    """CLIPScore from a safetensors file; ``dtype`` None is float32.

    Raises :class:`CheckpointError` for missing or unexpected tensors.
    """
    return ClipScore(load_clip(path, device, dtype or torch.float32), sha256(path))


class ClipScore(Oracle):
    """``network`` is a transformers ``CLIPModel``; scores are in -100 to 100, about 15 to 40 on real pictures."""

    family = "clipscore"
    unit = "100 x cosine"

    def __init__(self, network: torch.nn.Module, fingerprint: str):
        from .clip_tokenizer import clip_tokenizer

        self.network = network
        self.fingerprint = fingerprint
        self.tokenizer = clip_tokenizer()

    def score(self, images: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """Scores ``[B]`` of images ``[B, 3, H, W]`` in [0, 1]; a prompt's tokens after the 75th are not read."""
        clip = self.network
        weight = clip.visual_projection.weight
        size = clip.config.vision_config.image_size
        pixels = preprocess(images.float(), size).to(weight.dtype)
        tokens = self.tokenizer(list(prompts), padding="max_length", max_length=77, truncation=True)
        tokens = torch.tensor(tokens["input_ids"], device=weight.device)
        # The towers by hand: what get_image_features returns differs between transformers 4 and 5.
        picture = clip.visual_projection(clip.vision_model(pixel_values=pixels).pooler_output)
        text = clip.text_projection(clip.text_model(input_ids=tokens).pooler_output)
        return 100 * F.cosine_similarity(picture.float(), text.float(), dim=-1)


def preprocess(images: torch.Tensor, size: int) -> torch.Tensor:
    """CLIP's own preparation of images ``[B, 3, H, W]`` in [0, 1]: shorter side to ``size``, centre crop, normalise."""
    height, width = images.shape[-2:]
    short = min(height, width)
    shape = (int(size * height / short), int(size * width / short))
    images = F.interpolate(images, shape, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    top, left = round((shape[0] - size) / 2), round((shape[1] - size) / 2)
    images = images[..., top : top + size, left : left + size]
    mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (images - mean) / std


def load_clip(path: str | Path, device, dtype: torch.dtype):
    """A transformers ``CLIPModel`` with every tensor of the file in its place, and none without one."""
    from safetensors.torch import load_file
    from transformers import CLIPModel

    header = read_header(path)
    with torch.device("meta"):
        network = CLIPModel(clip_config(path, header.shapes, header.metadata))
    return fill(path, network, load_file(path), dtype).to(device)


def clip_config(path: str | Path, shapes: dict[str, tuple[int, ...]], metadata: dict[str, str]):
    """transformers' ``CLIPConfig`` for tensors of these shapes.

    Heads are 64 wide, as in every released CLIP. Which GELU it was trained with no shape tells: the file's metadata
    (``hidden_act``) or a ``config.json`` beside it decides, else the width does (see ``QUICK_GELU_WIDTHS``).
    """
    from transformers import CLIPConfig

    vision, text = _tower(shapes, "vision_model"), _tower(shapes, "text_model")
    patch = shapes["vision_model.embeddings.patch_embedding.weight"][-1]
    patches = shapes["vision_model.embeddings.position_embedding.weight"][0] - 1
    vocabulary = shapes["text_model.embeddings.token_embedding.weight"][0]
    by_width = "quick_gelu" if vision["hidden_size"] in QUICK_GELU_WIDTHS else "gelu"
    activation = metadata.get("hidden_act") or _activation_beside(path) or by_width
    projection = shapes["text_projection.weight"][0]
    shared = {"hidden_act": activation, "projection_dim": projection}
    return CLIPConfig(
        text_config={
            **text,
            **shared,
            "vocab_size": vocabulary,
            "max_position_embeddings": shapes["text_model.embeddings.position_embedding.weight"][0],
            "bos_token_id": vocabulary - 2,
            "eos_token_id": vocabulary - 1,
        },
        vision_config={**vision, **shared, "patch_size": patch, "image_size": patch * round(patches**0.5)},
        projection_dim=projection,
    )


def _tower(shapes: dict[str, tuple[int, ...]], name: str) -> dict[str, int]:
    layers = {key.split(".")[3] for key in shapes if key.startswith(f"{name}.encoder.layers.")}
    first = f"{name}.encoder.layers.0.mlp.fc1.weight"
    if first not in shapes:
        raise CheckpointError(f"the CLIP lacks {first}")
    inner, width = shapes[first]
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": len(layers),
        "num_attention_heads": max(width // 64, 1),
    }


def _activation_beside(path: str | Path) -> str | None:
    beside = Path(path).with_name("config.json")
    if not beside.is_file():
        return None
    try:
        config = json.loads(beside.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{beside} is not valid JSON: {error}") from error
    if not isinstance(config, dict) or config.get("model_type") != "clip":
        return None
    return (config.get("vision_config") or {}).get("hidden_act", "quick_gelu")
