"""transformers' CLIP, built from the shapes in a file and filled from it, whichever layout the file has.

Two layouts are in use: transformers' own (``text_model.*``, ``vision_model.*``), and OpenAI's, which OpenCLIP kept
(``visual.*``, ``transformer.*``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import CheckpointError, fill
from .activation import OPENAI_ONLY, activation, in_openai_layout
from .base import Oracle
from .clip_tokenizer import cleaned, clip_tokenizer
from .tensors import Renamed, TensorFile, shape_of, shapes_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LENGTH = 77  # tokens, the first and the last of the text included
VOCABULARY = 49408  # of the byte-pair tokenizer that ships with the pack
HUGE_WIDTH = 1280  # of the image tower of ViT-H-14
IMAGE_TOWER = ("vision_model.", "visual_projection.")  # what the names of an image tower begin with


class ClipOracle(Oracle):
    """A scale times the cosine of CLIP's image and text embeddings; ``network`` is a transformers ``CLIPModel``.

    ``cleans``: whether texts are cleaned before they are tokenized. OpenAI's package and OpenCLIP do, transformers not.
    """

    scale = 1.0
    cleans = False

    def __init__(self, network: torch.nn.Module, fingerprint: str):
        self.network = network
        self.fingerprint = fingerprint
        self.tokenizer = clip_tokenizer()

    @property
    def size(self) -> int:
        """The side of the pictures that the network takes, in pixels."""
        return self.network.config.vision_config.image_size

    def token_limit(self) -> int:
        return LENGTH

    def token_count(self, prompt: str) -> int:
        return len(self.tokenizer(self._text(prompt), verbose=False).input_ids)

    def score_prepared(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        import torch
        from torch.nn import functional as F

        clip = self.network
        weight = clip.visual_projection.weight
        different = list(dict.fromkeys(prompts))  # a text is read once, however many pictures it stands for
        texts = [self._text(prompt) for prompt in different]
        # No longer than the longest needs: a token is read with those before it alone, so what fills up tells nothing.
        tokens = self.tokenizer(texts, padding=True, max_length=LENGTH, truncation=True)
        tokens = torch.tensor(tokens["input_ids"], device=weight.device)
        # The towers by hand: what get_image_features returns differs between transformers 4 and 5.
        picture = clip.visual_projection(clip.vision_model(pixel_values=pixels.to(weight.dtype)).pooler_output)
        text = clip.text_projection(clip.text_model(input_ids=tokens).pooler_output)
        text = text[torch.tensor([different.index(prompt) for prompt in prompts], device=weight.device)]
        return self.scale * F.cosine_similarity(picture.float(), text.float(), dim=-1)

    def _text(self, prompt: str) -> str:
        return cleaned(prompt) if self.cleans else prompt


def is_clip(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether these are both towers and both projections of a CLIP, in either layout."""
    in_transformers = {
        "logit_scale",
        "text_projection.weight",
        "visual_projection.weight",
        "vision_model.post_layernorm.weight",
    }
    in_open_clip = {"logit_scale", "text_projection", "visual.proj", "visual.conv1.weight", "token_embedding.weight"}
    return in_transformers <= shapes.keys() or in_open_clip <= shapes.keys()


def image_width(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The width of the image tower, 0 if there is none."""
    for key in ("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight"):
        if key in shapes:
            return shapes[key][0]
    return 0


def is_huge(file: TensorFile) -> bool:
    """Whether it has ViT-H-14's image tower, which HPS and PickScore share; a CLIP of another size is none of these."""
    return image_width(file.shapes) == HUGE_WIDTH


def load_clip(file: TensorFile, dtype: torch.dtype) -> torch.nn.Module:
    """A ``CLIPModel`` with every tensor of the file in its place, and none without one. Raises CheckpointError."""
    import torch
    from transformers import CLIPModel

    tensors = in_transformers_layout(file)
    with torch.device("meta"):
        network = CLIPModel(_config(file, shapes_of(tensors)))
    # Its exponential multiplies PickScore's cosine: bfloat16 next to ln 100 is 1 % off.
    return fill(file.path, network, tensors, dtype, exact=("logit_scale",))


def load_image_tower(file: TensorFile, dtype: torch.dtype) -> torch.nn.Module:
    """A ``CLIPVisionModelWithProjection`` from a file of a whole CLIP, or of its image half. Raises CheckpointError."""
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    tensors = in_transformers_layout(file)
    tensors = Renamed(tensors, {key: key for key in tensors if key.startswith(IMAGE_TOWER)})
    with torch.device("meta"):
        network = CLIPVisionModelWithProjection(CLIPVisionConfig(**_vision_config(file, shapes_of(tensors))))
    return fill(file.path, network, tensors, dtype)


def activation_in(file: TensorFile) -> str:
    """The activation that a file's CLIP will have, see :func:`~understudy.oracles.activation.activation`."""
    return _vision_config(file, shapes_of(in_transformers_layout(file)))["hidden_act"]


def activation_told(file: TensorFile) -> dict[str, str]:
    """What ``oracle info`` says of a CLIP beside the rest."""
    return {"activation": activation_in(file)}


def in_transformers_layout(file: Mapping) -> Mapping:
    """The tensors under transformers' names."""
    if not in_openai_layout(file):
        return file
    table = {}
    for key in file:
        if key not in OPENAI_ONLY:
            table.update(_renamed(key))
    return Renamed(file, table)


def _transposed(value: Tensor) -> Tensor:
    return value.T


def _third(part: int):
    return lambda value: value.chunk(3)[part]


OUTSIDE_BLOCKS = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final": "text_model.final_layer_norm",
}
IN_BLOCKS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def _renamed(key: str) -> dict[str, str | tuple]:
    """The entries of a :class:`Renamed` table that one of OpenAI's names becomes."""
    if key in ("visual.proj", "text_projection"):
        return {{"visual.proj": "visual_projection"}.get(key, key) + ".weight": (key, _transposed)}
    for old, new in (("visual.transformer.resblocks.", "vision_model"), ("transformer.resblocks.", "text_model")):
        if key.startswith(old):
            number, _, rest = key[len(old) :].partition(".")
            block = f"{new}.encoder.layers.{number}"
            if rest.startswith("attn.in_proj_"):
                kind = rest.removeprefix("attn.in_proj_")
                return {f"{block}.self_attn.{p}_proj.{kind}": (key, _third(i)) for i, p in enumerate("qkv")}
            module, _, kind = rest.rpartition(".")
            return {f"{block}.{IN_BLOCKS.get(module, module)}.{kind}": key}
    if key in OUTSIDE_BLOCKS:
        return {OUTSIDE_BLOCKS[key]: key}
    module, _, kind = key.rpartition(".")
    return {f"{OUTSIDE_BLOCKS[module]}.{kind}" if module in OUTSIDE_BLOCKS else key: key}


def _config(file: TensorFile, shapes: dict[str, tuple[int, ...]]):
    from transformers import CLIPConfig

    vision, text = _vision_config(file, shapes), _tower(file.path, shapes, "text_model")
    vocabulary = shape_of(file.path, shapes, "text_model.embeddings.token_embedding.weight")[0]
    positions = shape_of(file.path, shapes, "text_model.embeddings.position_embedding.weight")[0]
    if (vocabulary, positions) != (VOCABULARY, LENGTH):
        raise CheckpointError(
            f"{file.path} reads {positions} tokens of a vocabulary of {vocabulary}; expected {LENGTH} of {VOCABULARY}, "
            "which are those of OpenAI's CLIP. It needs another tokenizer, so its scores would mean nothing"
        )
    shared = {key: vision[key] for key in ("hidden_act", "projection_dim")}
    ends = {"bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1}
    text |= {"vocab_size": vocabulary, "max_position_embeddings": positions, **shared, **ends}
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=shared["projection_dim"])


def _vision_config(file: TensorFile, shapes: dict[str, tuple[int, ...]]) -> dict:
    vision = _tower(file.path, shapes, "vision_model")
    width = vision["hidden_size"]
    patch = shape_of(file.path, shapes, "vision_model.embeddings.patch_embedding.weight")[-1]
    patches = shape_of(file.path, shapes, "vision_model.embeddings.position_embedding.weight")[0] - 1
    vision |= {
        # Heads are 64 wide up to ViT-L; the larger image towers (ViT-H, g and bigG) keep its sixteen.
        "num_attention_heads": 16 if width >= 1024 else max(width // 64, 1),
        "patch_size": patch,
        "image_size": patch * round(patches**0.5),
        "projection_dim": shape_of(file.path, shapes, "visual_projection.weight")[0],
    }
    return vision | {"hidden_act": activation(file, vision)}


def _tower(path: Path, shapes: dict[str, tuple[int, ...]], name: str) -> dict[str, int]:
    layers = {key.split(".")[3] for key in shapes if key.startswith(f"{name}.encoder.layers.")}
    inner, width = shape_of(path, shapes, f"{name}.encoder.layers.0.mlp.fc1.weight")
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": len(layers),
        "num_attention_heads": max(width // 64, 1),
    }
