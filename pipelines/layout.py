"""Network configurations of SD 1.x and SDXL checkpoints, read off the tensors' names and shapes.

Only what no shape tells is written down here, per architecture: attention heads, activations, scaling factors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..files import CheckpointError, preview

Shapes = dict[str, tuple[int, ...]]

UNET, VAE = "model.diffusion_model.", "first_stage_model."
GUIDANCE_INPUT = "time_embedding.cond_proj.weight"  # in diffusers' UNet only, of a student that is told its guidance
# Diffusers' names of a residual block's parts, and the original ones.
RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


@dataclass(frozen=True)
class TextLayout:
    """One text encoder in a checkpoint. ``open_clip`` layouts have fused projections and other names."""

    prefix: str
    open_clip: bool
    activation: str
    pad_token: str


@dataclass(frozen=True)
class Architecture:
    """What the tensors of an architecture's checkpoints do not say. ``kind`` is what students' files call it."""

    kind: str
    name: str
    texts: tuple[TextLayout, ...]
    unet_heads: int | None  # the same number at every level; None: heads are 64 channels wide
    vae_scaling: float
    vae_force_upcast: bool
    default_size: int
    empty_negative_is_zero: bool
    latent_channels: int = 4


SD1 = Architecture(
    kind="sd1",
    name="SD 1.x",
    texts=(TextLayout("cond_stage_model.transformer.", False, "quick_gelu", "<|endoftext|>"),),
    unet_heads=8,
    vae_scaling=0.18215,
    vae_force_upcast=False,
    default_size=512,
    empty_negative_is_zero=False,
)
SDXL = Architecture(
    kind="sdxl",
    name="SDXL",
    texts=(
        TextLayout("conditioner.embedders.0.transformer.", False, "quick_gelu", "<|endoftext|>"),
        TextLayout("conditioner.embedders.1.model.", True, "gelu", "!"),
    ),
    unet_heads=None,
    vae_scaling=0.13025,
    vae_force_upcast=True,
    default_size=1024,
    empty_negative_is_zero=True,
)


# Layers that only other architectures' networks have, and text encoders that only theirs come with.
OTHER_FAMILIES = {
    "double_blocks.": "a Flux-like network",
    "joint_blocks.": "an SD 3 network",
    "transformer_blocks.": "a diffusion transformer",
}
EDM = "was trained on EDM's noise levels, as Playground 2.5 and CosXL are; expected SD 1.x or SDXL on their own"
OTHER_TEXTS = {"cond_stage_model.model.": "SD 2.x", "conditioner.embedders.0.model.": "the SDXL refiner"}


def architecture_of(path, shapes: Shapes) -> Architecture:
    """The architecture of a checkpoint's tensors. Raises CheckpointError that says what the file seems to be."""
    keys = shapes.keys()

    def some(*prefixes: str) -> bool:
        return any(key.startswith(prefixes) for key in keys)

    if some("lora_unet", "lora_te") or any(".lora_" in key or "lora_A" in key for key in keys):
        raise CheckpointError(f"{path} is a LoRA, not a checkpoint; name the checkpoint that it is for")
    if not some(UNET) or some(*(UNET + prefix for prefix in OTHER_FAMILIES)):
        bare = {key.removeprefix(UNET) for key in keys}
        others = [name for prefix, name in OTHER_FAMILIES.items() if any(key.startswith(prefix) for key in bare)]
        single = some("text_model.", "down_blocks.", "conv_in.", "input_blocks.")
        hint = others[0] if others else "a single network or a CLIP" if single else "something else"
        raise CheckpointError(f"{path} is {hint}; expected an SD 1.x or SDXL checkpoint with its '{UNET}' tensors")
    if some("edm_mean", "edm_std", "edm_vpred."):
        raise CheckpointError(f"{path} {EDM}")
    for architecture in (SD1, SDXL):
        if all(some(text.prefix) for text in architecture.texts):
            return architecture
    looks = [name for prefix, name in OTHER_TEXTS.items() if some(prefix)]
    hint = f"it looks like {looks[0]}" if looks else "other architectures cannot be read"
    raise CheckpointError(f"{path} has no text encoder of SD 1.x or SDXL; {hint}")


def unet_config(architecture: Architecture, shapes: Shapes) -> dict:
    """Arguments of diffusers' UNet2DConditionModel for the tensors under ``UNET``."""
    unet = _below(shapes, UNET)
    first = _shape(unet, "input_blocks.0.0.weight")
    channels, resnets, depths = [], [0], [[]]
    for block in range(1, _count(unet, "input_blocks")):
        if f"input_blocks.{block}.0.op.weight" in unet:
            resnets.append(0)
            depths.append([])
            continue
        width = _shape(unet, f"input_blocks.{block}.0.out_layers.3.weight")[0]
        if resnets[-1] == 0:
            channels.append(width)
        resnets[-1] += 1
        depths[-1].append(_count(unet, f"input_blocks.{block}.1.transformer_blocks"))
    if len(set(resnets)) != 1 or any(len(set(level)) != 1 for level in depths):
        raise CheckpointError("the UNet has levels of different build; no SD 1.x or SDXL network has")
    attention = [level[0] for level in depths]
    contexts = [shape[1] for key, shape in unet.items() if key.endswith("attn2.to_k.weight")]
    if not contexts:
        raise CheckpointError("the UNet has no cross-attention; expected a text-to-image network")
    if architecture.unet_heads:
        heads: int | list[int] = architecture.unet_heads
    else:
        heads = [max(width // 64, 1) for width in channels]
    config = {
        "in_channels": first[1],
        "out_channels": _shape(unet, "out.2.weight")[0],
        "block_out_channels": channels,
        "layers_per_block": resnets[0],
        "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in attention],
        "up_block_types": ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(attention)],
        "transformer_layers_per_block": [max(depth, 1) for depth in attention],
        "cross_attention_dim": contexts[0],
        # Diffusers' historical name for the number of heads.
        "attention_head_dim": heads,
        "use_linear_projection": any(len(s) == 2 for key, s in unet.items() if key.endswith("proj_in.weight")),
    }
    if config["in_channels"] != config["out_channels"]:
        raise CheckpointError(
            f"the UNet reads {config['in_channels']} channels and gives {config['out_channels']}: an inpainting or "
            "editing checkpoint; expected a text-to-image one"
        )
    if "label_emb.0.0.weight" in unet:
        extra = unet["label_emb.0.0.weight"][1]
        pooled = _shape(shapes, f"{SDXL.texts[1].prefix}text_projection")[1]
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": (extra - pooled) // 6,
            "projection_class_embeddings_input_dim": extra,
        }
    return config


def original_unet_names(keys: Iterable[str], layers: int) -> dict[str, str]:
    """The original layout's name, without ``UNET``, of each tensor of a diffusers UNet2DConditionModel.

    layers: the network's ``layers_per_block``. Raises CheckpointError for a name that no SD 1.x or SDXL network has.
    """
    from diffusers.loaders.single_file_utils import DIFFUSERS_TO_LDM_MAPPING

    keys = list(keys)
    outer = DIFFUSERS_TO_LDM_MAPPING["unet"]["layers"] | DIFFUSERS_TO_LDM_MAPPING["unet"]["addition_embed_type"]
    attention = {key.split(".")[1] for key in keys if re.match(r"up_blocks\.\d+\.attentions\.", key)}

    def inner(kind: str, rest: str) -> str:
        """What follows the block's number: residual blocks come first in theirs, transformers second."""
        if kind == "attentions":
            return f"1.{rest}"
        name, _, parameter = rest.rpartition(".")
        return f"0.{RESIDUAL[name]}.{parameter}"

    def original(key: str) -> str | None:
        if key in outer:
            return outer[key]
        if match := re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.+)", key):
            block = int(match[2]) * (layers + 1) + int(match[4])
            side, block = ("input", block + 1) if match[1] == "down" else ("output", block)
            return f"{side}_blocks.{block}.{inner(match[3], match[5])}"
        if match := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)", key):
            place, rest = inner(match[1], match[3]).split(".", 1)
            return f"middle_block.{int(place) + 2 * int(match[2])}.{rest}"
        if match := re.fullmatch(r"down_blocks\.(\d+)\.downsamplers\.0\.conv\.(.+)", key):
            return f"input_blocks.{(int(match[1]) + 1) * (layers + 1)}.0.op.{match[2]}"
        if match := re.fullmatch(r"up_blocks\.(\d+)\.upsamplers\.0\.conv\.(.+)", key):
            block = int(match[1]) * (layers + 1) + layers
            return f"output_blocks.{block}.{2 if match[1] in attention else 1}.conv.{match[2]}"
        return None

    names = {key: original(key) for key in keys}
    if unknown := [key for key, name in names.items() if name is None]:
        raise CheckpointError(f"{preview(unknown)}: no such tensors in an SD 1.x or SDXL UNet")
    return names


def vae_config(architecture: Architecture, shapes: Shapes) -> dict:
    """Arguments of diffusers' AutoencoderKL for the tensors under ``VAE``."""
    vae = _below(shapes, VAE)
    levels = _count(vae, "encoder.down")
    channels = [_shape(vae, f"encoder.down.{level}.block.0.conv2.weight")[0] for level in range(levels)]
    return {
        "block_out_channels": channels,
        "layers_per_block": _count(vae, "encoder.down.0.block"),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "latent_channels": _shape(vae, "decoder.conv_in.weight")[1],
        "scaling_factor": architecture.vae_scaling,
        "force_upcast": architecture.vae_force_upcast,
    }


def text_config(layout: TextLayout, shapes: Shapes) -> dict:
    """Arguments of transformers' CLIPTextConfig for one text encoder."""
    text = _below(shapes, layout.prefix)
    if layout.open_clip:
        tokens, positions = _shape(text, "token_embedding.weight"), _shape(text, "positional_embedding")
        layers, mlp = "transformer.resblocks", "mlp.c_fc"
        projection = _shape(text, "text_projection")[1]
    else:
        tokens = _shape(text, "text_model.embeddings.token_embedding.weight")
        positions = _shape(text, "text_model.embeddings.position_embedding.weight")
        layers, mlp = "text_model.encoder.layers", "mlp.fc1"
        projection = tokens[1]
    return {
        "vocab_size": tokens[0],
        "hidden_size": tokens[1],
        "intermediate_size": _shape(text, f"{layers}.0.{mlp}.weight")[0],
        "num_hidden_layers": _count(text, layers),
        "num_attention_heads": max(tokens[1] // 64, 1),
        "max_position_embeddings": positions[0],
        "projection_dim": projection,
        "hidden_act": layout.activation,
        "bos_token_id": tokens[0] - 2,
        "eos_token_id": tokens[0] - 1,
    }


def _below(shapes: Shapes, prefix: str) -> Shapes:
    return {key[len(prefix) :]: shape for key, shape in shapes.items() if key.startswith(prefix)}


def _count(keys: Iterable[str], prefix: str) -> int:
    """How many numbered parts, ``prefix.0``, ``prefix.1`` ..., there are."""
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
    return len({match[1] for key in keys if (match := pattern.match(key))})


def _shape(shapes: Shapes, key: str) -> tuple[int, ...]:
    if key not in shapes:
        raise CheckpointError(f"the checkpoint lacks {key}")
    return shapes[key]
