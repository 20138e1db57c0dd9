"""ImageReward-v1.0 (Xu et al. 2023): BLIP reads the picture into the text, a head makes a score of the first token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from ..files import fill
from .base import Oracle
from .heads import linear_head
from .preprocess import openai_clip
from .tensors import Renamed, TensorFile, shape_of, shapes_of, without_prefix

LENGTH = 35  # tokens, [CLS] and [SEP] included
MEAN, STD = 0.16717362830052426, 1.0333394966054072  # of the raw scores, removed
VOCABULARY = Path(__file__).parent / "bert_wordpiece" / "vocab.txt"
UNUSED = ("blip.vision_proj.", "blip.text_proj.")  # of BLIP's contrastive loss


class ImageRewardNetwork(nn.Module):
    """transformers' BLIP image tower and text encoder with cross-attention, and the head, which stays in float32.

    forward: pixels ``[B, 3, S, S]``, token ids and mask ``[B, L]`` to standardised scores ``[B]``.
    """

    def __init__(self, vision_config, text_config, head: nn.Module):
        super().__init__()
        from transformers.models.blip.modeling_blip import BlipVisionModel
        from transformers.models.blip.modeling_blip_text import BlipTextModel

        self.vision = BlipVisionModel(vision_config)
        self.text = BlipTextModel(text_config, add_pooling_layer=False)
        self.head = head

    def forward(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        seen = self.vision(pixel_values=pixels).last_hidden_state
        read = self.text(input_ids=ids, attention_mask=mask, encoder_hidden_states=seen).last_hidden_state
        return (self.head(read[:, 0].float())[:, 0] - MEAN) / STD


class ImageReward(Oracle):
    """Scores have mean 0 and standard deviation 1 over the authors' data; they can be negative."""

    family = "imagereward"

    def __init__(self, network: ImageRewardNetwork, fingerprint: str):
        self.network = network
        self.fingerprint = fingerprint
        self.tokenizer = bert_tokenizer()

    def longest(self) -> int:
        return LENGTH

    def token_count(self, prompt: str) -> int:
        return len(self.tokenizer(prompt, verbose=False).input_ids)

    def prepare(self, images: Tensor) -> Tensor:
        return openai_clip(images, self.network.vision.config.image_size)

    def score_prepared(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        weight = self.network.vision.post_layernorm.weight
        tokens = self.tokenizer(
            list(prompts), padding=True, truncation=True, max_length=LENGTH, return_tensors="pt"
        ).to(weight.device)
        return self.network(pixels.to(weight.dtype), tokens["input_ids"], tokens["attention_mask"])


@cache
def bert_tokenizer():
    """transformers' ``BertTokenizer`` on bert-base-uncased's vocabulary, which ships with the pack, and BLIP's two."""
    from transformers import BertTokenizer

    tokenizer = BertTokenizer(str(VOCABULARY), do_lower_case=True)
    tokenizer.add_tokens(["[DEC]", "[ENC]"], special_tokens=True)
    return tokenizer


def fits(file: TensorFile) -> bool:
    return {"blip.visual_encoder.pos_embed", "mlp.layers.0.weight"} <= file.keys()


def load(file: TensorFile, family: str, fingerprint: str, dtype, encoder) -> ImageReward:
    tensors = in_transformers_layout(file)
    shapes = shapes_of(tensors)
    configs = _vision_config(file.path, shapes), _text_config(file.path, shapes)
    with torch.device("meta"):
        network = ImageRewardNetwork(*configs, linear_head(file.path, shapes, "head."))
    return ImageReward(fill(file.path, network, tensors, dtype, exact=("head.",)), fingerprint)


def in_transformers_layout(file: Mapping) -> Renamed:
    """The tensors of the published file under the names of :class:`ImageRewardNetwork`."""
    table = {f"head.{rest}": old for rest, old in without_prefix(file, "mlp.layers.").items()}
    table |= {f"text.{rest}": old for rest, old in without_prefix(file, "blip.text_encoder.").items()}
    for rest, old in without_prefix(file, "blip.visual_encoder.").items():
        table[f"vision.{_of_transformers(rest)}"] = old
    known = set(table.values())
    table |= {key: key for key in file if key not in known and not key.startswith(UNUSED)}
    return Renamed(file, table)


VISION = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj": "embeddings.patch_embedding",
    "norm": "post_layernorm",
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.qkv": "self_attn.qkv",
    "attn.proj": "self_attn.projection",
}


def _of_transformers(key: str) -> str:
    if key in VISION:
        return VISION[key]
    module, _, kind = key.rpartition(".")
    if module.startswith("blocks."):
        number, _, module = module.removeprefix("blocks.").partition(".")
        return f"encoder.layers.{number}.{VISION.get(module, module)}.{kind}"
    return f"{VISION.get(module, module)}.{kind}"


def _vision_config(path: Path, shapes: dict[str, tuple[int, ...]]):
    from transformers import BlipVisionConfig

    inner, width = shape_of(path, shapes, "vision.encoder.layers.0.mlp.fc1.weight")
    patch = shape_of(path, shapes, "vision.embeddings.patch_embedding.weight")[-1]
    patches = shape_of(path, shapes, "vision.embeddings.position_embedding")[1] - 1
    return BlipVisionConfig(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=_count(shapes, "vision.encoder.layers."),
        num_attention_heads=max(width // 64, 1),
        image_size=patch * round(patches**0.5),
        patch_size=patch,
        hidden_act="gelu",
        layer_norm_eps=1e-6,
    )


def _text_config(path: Path, shapes: dict[str, tuple[int, ...]]):
    from transformers import BlipTextConfig

    vocabulary, width = shape_of(path, shapes, "text.embeddings.word_embeddings.weight")
    return BlipTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        encoder_hidden_size=shape_of(path, shapes, "text.encoder.layer.0.crossattention.self.key.weight")[1],
        intermediate_size=shape_of(path, shapes, "text.encoder.layer.0.intermediate.dense.weight")[0],
        num_hidden_layers=_count(shapes, "text.encoder.layer."),
        num_attention_heads=max(width // 64, 1),
        max_position_embeddings=shape_of(path, shapes, "text.embeddings.position_embeddings.weight")[0],
        hidden_act="gelu",
        layer_norm_eps=1e-12,
        is_decoder=True,  # so that its layers have cross-attention; without a causal mask, as it is called
    )


def _count(shapes: dict[str, tuple[int, ...]], prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in shapes if key.startswith(prefix)})
