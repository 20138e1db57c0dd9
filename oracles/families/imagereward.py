"""ImageReward-v1.0 (Xu et al. 2023): BLIP reads the picture into the text, a head makes a score of the first token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ...files import fill
from ..base import Oracle
from ..family import Family, Published, on_hub
from ..heads import PLAIN, Head
from ..preprocess import openai_clip
from ..tensors import Renamed, TensorFile, shape_of, shapes_of, without_prefix

if TYPE_CHECKING:
    from torch import Tensor, nn

LENGTH = 35  # tokens, [CLS] and [SEP] included
MEAN, STD = 0.16717362830052426, 1.0333394966054072  # of the raw scores, removed
VOCABULARY = Path(__file__).parents[1] / "bert_wordpiece" / "vocab.txt"
HEAD = Head("mlp.layers.", PLAIN)
UNUSED = ("blip.vision_proj.", "blip.text_proj.")  # of BLIP's contrastive loss


class ImageReward(Oracle):
    """Scores have mean 0 and standard deviation 1 over the authors' data; they can be negative.

    ``network`` holds transformers' BLIP: ``vision``, its image tower, and ``text``, its text encoder with
    cross-attention; and ``head``, which stays in float32.
    """

    def __init__(self, network: nn.Module, fingerprint: str):
        self.network = network
        self.fingerprint = fingerprint
        self.tokenizer = bert_tokenizer()

    def token_limit(self) -> int:
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
        seen = self.network.vision(pixel_values=pixels.to(weight.dtype)).last_hidden_state
        ids, mask = tokens["input_ids"], tokens["attention_mask"]
        read = self.network.text(input_ids=ids, attention_mask=mask, encoder_hidden_states=seen).last_hidden_state
        return (self.network.head(read[:, 0].float())[:, 0] - MEAN) / STD


@cache
def bert_tokenizer():
    """transformers' ``BertTokenizer`` on bert-base-uncased's vocabulary, which ships with the pack, and BLIP's two."""
    from transformers import BertTokenizer

    tokenizer = BertTokenizer(str(VOCABULARY), do_lower_case=True)
    tokenizer.add_tokens(["[DEC]", "[ENC]"], special_tokens=True)
    return tokenizer


def fits(file: TensorFile) -> bool:
    return "blip.visual_encoder.pos_embed" in file and HEAD.is_in(file)


def load(file: TensorFile, fingerprint: str, dtype, encoder) -> ImageReward:
    import torch
    from transformers.models.blip.modeling_blip import BlipVisionModel
    from transformers.models.blip.modeling_blip_text import BlipTextModel

    tensors = in_transformers_layout(file)
    shapes = shapes_of(tensors)
    with torch.device("meta"):
        vision = BlipVisionModel(_vision_config(file.path, shapes))
        text = BlipTextModel(_text_config(file.path, shapes), add_pooling_layer=False)
        network = torch.nn.ModuleDict({"vision": vision, "text": text, "head": HEAD.layers(file)})
    return ImageReward(fill(file.path, network, tensors, dtype, exact=("head.",), name="ImageReward"), fingerprint)


def details(file: TensorFile) -> dict[str, str]:
    return {"head": HEAD.kind(file)}


def in_transformers_layout(file: Mapping) -> Renamed:
    """The tensors of the published file under the names of :class:`ImageReward`'s network."""
    table = {f"head.{rest}": old for rest, old in without_prefix(file, HEAD.prefix).items()}
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


FAMILY = Family(
    name="imagereward",
    title="ImageReward",
    unit="standard deviations; may be negative",
    takes="`ImageReward.pt`",
    fits=fits,
    load=load,
    details=details,
    published=(
        Published(
            name="imagereward",
            file="ImageReward.pt",
            url=on_hub("zai-org/ImageReward", "ImageReward.pt"),
            licence="Apache-2.0",
            source="Xu et al. 2023, arXiv 2304.05977",
            sha256="d71dc8d4912bc633c06ab8ef1ef6a81e8199d4369f14b47b29baf1d19de561f6",
            size=1_786_880_927,
        ),
    ),
)
