"""Diffusers networks written in the original single-file layout, for tests that read it back."""

import re

import torch

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def original_layout(parts):
    """The state dict of a checkpoint file that holds these parts."""
    unet, vae = parts["unet"], parts["vae"]
    layers = unet.config.layers_per_block
    weights = {}
    for key, value in unet.state_dict().items():
        weights["model.diffusion_model." + unet_key(key, layers, unet.state_dict())] = value
    levels = len(vae.config.block_out_channels)
    for key, value in vae.state_dict().items():
        name = vae_key(key, levels)
        # The original's attention is made of 1x1 convolutions.
        square = ".attn_1." in name and name.endswith("weight") and ".norm." not in name
        weights["first_stage_model." + name] = value[:, :, None, None] if square else value
    if "text_encoder_2" not in parts:
        weights |= clip_weights(parts["text_encoder"], "cond_stage_model.transformer.")
    else:
        weights |= clip_weights(parts["text_encoder"], "conditioner.embedders.0.transformer.")
        weights |= open_clip_weights(parts["text_encoder_2"], "conditioner.embedders.1.model.")
    return {key: value.detach().clone().contiguous() for key, value in weights.items()}


def unet_key(key, layers, keys):
    for new, old in UNET.items():
        if key.startswith(new + "."):
            return key.replace(new, old, 1)
    if match := re.match(r"down_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.+)", key):
        level, kind, layer, rest = int(match[1]), match[2], int(match[3]), match[4]
        block = 1 + level * (layers + 1) + layer
        return f"input_blocks.{block}.0.{resnet(rest)}" if kind == "resnets" else f"input_blocks.{block}.1.{rest}"
    if match := re.match(r"down_blocks\.(\d+)\.downsamplers\.0\.conv\.(.+)", key):
        return f"input_blocks.{(int(match[1]) + 1) * (layers + 1)}.0.op.{match[2]}"
    if match := re.match(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)", key):
        if match[1] == "attentions":
            return f"middle_block.1.{match[3]}"
        return f"middle_block.{2 * int(match[2])}.{resnet(match[3])}"
    if match := re.match(r"up_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.+)", key):
        level, kind, layer, rest = int(match[1]), match[2], int(match[3]), match[4]
        block = level * (layers + 1) + layer
        return f"output_blocks.{block}.0.{resnet(rest)}" if kind == "resnets" else f"output_blocks.{block}.1.{rest}"
    if match := re.match(r"up_blocks\.(\d+)\.upsamplers\.0\.conv\.(.+)", key):
        level = int(match[1])
        attention = any(k.startswith(f"up_blocks.{level}.attentions.") for k in keys)
        return f"output_blocks.{level * (layers + 1) + layers}.{2 if attention else 1}.conv.{match[2]}"
    raise AssertionError(key)


def resnet(rest):
    name, _, kind = rest.rpartition(".")
    return f"{RESNET[name]}.{kind}"


def vae_key(key, levels):
    key = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    key = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", key)
    if "mid_block.attentions.0." in key:
        head, rest = key.split("mid_block.attentions.0.")
        name, _, kind = rest.rpartition(".")
        return f"{head}mid.attn_1.{VAE_ATTENTION[name]}.{kind}"
    key = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", key)
    key = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", key)
    key = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{levels - 1 - int(m[1])}.block", key)
    return re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", key)


def clip_weights(network, prefix):
    """Hugging Face's names, with the "text_model" that transformers 5.6 took away."""
    return {prefix + "text_model." + key.removeprefix("text_model."): v for key, v in network.state_dict().items()}


def open_clip_weights(network, prefix):
    state = {key.removeprefix("text_model."): value for key, value in network.state_dict().items()}
    weights = {
        "token_embedding.weight": state.pop("embeddings.token_embedding.weight"),
        "positional_embedding": state.pop("embeddings.position_embedding.weight"),
        "ln_final.weight": state.pop("final_layer_norm.weight"),
        "ln_final.bias": state.pop("final_layer_norm.bias"),
        "text_projection": state.pop("text_projection.weight").T,
        "logit_scale": torch.tensor(4.6),
    }
    for layer in {key.split(".")[2] for key in state}:
        for kind in ("weight", "bias"):
            fused = [state.pop(f"encoder.layers.{layer}.self_attn.{name}_proj.{kind}") for name in "qkv"]
            weights[f"transformer.resblocks.{layer}.attn.in_proj_{kind}"] = torch.cat(fused)
    for key, value in state.items():
        layer, name = re.match(r"encoder\.layers\.(\d+)\.(.+)", key).groups()
        name, _, kind = name.rpartition(".")
        weights[f"transformer.resblocks.{layer}.{OPEN_CLIP[name]}.{kind}"] = value
    return {prefix + key: value for key, value in weights.items()}
