"""Model files with random weights in the layouts that users have, made once with fixed seeds.

The shapes are written out here rather than taken from the host's classes, so that a file shows what a user's file
shows: keys and shapes, from which ComfyUI has to find out what it is. Weights keep the variance of what they are
applied to (normal, 1 / fan-in), so that sampling stays finite and images differ from each other.
"""

import hashlib
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file

from ..oracles import small_files
from .environment import cache_dir, locked

# The names that the example workflows ask for.
CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
LORA = "lcm-lora-sdv1-5.safetensors"
CLIP = "clip-vit-large-patch14.safetensors"
# The same weights under a second name: two loaders of one file share a cache entry, and none could be seen to rest.
TEACHER = "understudy-test-teacher.safetensors"
WHOLE_CLIP = "whole-clip.safetensors"
REWARD = "ImageReward.safetensors"
HEAD = "sac+logos+ava1-l14-linearMSE.pth"
CODE, PAGE, HALF, ADAPTER = "code.pt", "page.safetensors", "half.safetensors", "adapter.safetensors"
CONTROLNET = "understudy-test-controlnet.safetensors"

CHANNELS, CONTEXT, TIME = 320, 768, 1280


class Layout(NamedTuple):
    """A UNet's levels. blocks: residual blocks of each; attention: whether they have a transformer."""

    widths: Sequence[int]
    blocks: int
    attention: Sequence[bool]

    @property
    def time(self) -> int:
        """The width of the time embedding."""
        return 4 * self.widths[0]


SD15 = Layout((320, 640, 1280, 1280), 2, (True, True, True, False))
SHALLOW = Layout((320, 320), 1, (True, True))
NARROW = Layout((64, 64), 1, (True, True))  # for a host that is told the widths, and does not know SD 1.5 by them


def models():
    """The folder with all files, laid out like ComfyUI's ``models`` folder; made if it is missing or out of date."""
    made_by = b"".join(Path(file).read_bytes() for file in (__file__, small_files.__file__))
    recipe = hashlib.sha256(made_by).hexdigest()[:8]
    folder = cache_dir() / f"models-{recipe}"
    with locked(cache_dir() / "models.lock"):
        if not folder.exists():
            for old in cache_dir().glob("models-*"):
                shutil.rmtree(old)
            unfinished = cache_dir() / "models-unfinished"
            save(unfinished / "checkpoints" / CHECKPOINT, checkpoint(), seed=1)
            _same_file(unfinished / "checkpoints" / CHECKPOINT, unfinished / "checkpoints" / TEACHER)
            save(unfinished / "controlnet" / CONTROLNET, controlnet(), seed=2)
            save(unfinished / "loras" / LORA, lora(), seed=3)
            _save_clip(unfinished / "oracles" / CLIP, seed=4)
            _save_clip(unfinished / "clip_vision" / WHOLE_CLIP, seed=5)
            _save_oracles(unfinished / "oracles")
            os.replace(unfinished, folder)
    return folder


def _same_file(source, target):
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def checkpoint(layout=SHALLOW):
    """Keys and shapes of a Stable Diffusion 1.5 checkpoint, with a shallow UNet if not told otherwise."""
    shapes = {f"model.diffusion_model.{key}": shape for key, shape in unet(layout).items()}
    shapes |= {f"first_stage_model.{key}": shape for key, shape in autoencoder().items()}
    return shapes | {f"cond_stage_model.transformer.text_model.{key}": shape for key, shape in text_encoder().items()}


def unet(layout=SHALLOW):
    shapes, skips = _unet_down(layout)
    width, place = layout.widths[-1], 0
    for level in reversed(range(len(layout.widths))):
        for block in range(layout.blocks + 1):
            name, before = f"output_blocks.{place}", width
            width = layout.widths[level]
            shapes |= _residual(f"{name}.0", before + skips.pop(), width, layout.time)
            if layout.attention[level]:
                shapes |= _transformer(f"{name}.1", width)
            if level and block == layout.blocks:
                shapes |= _conv(f"{name}.{1 + layout.attention[level]}.conv", width, width)
            place += 1
    return shapes | _norm("out.0", width) | _conv("out.2", width, 4)


def _unet_down(layout):
    """(the half that a ControlNet copies: time embedding, input blocks and middle block; each input block's width)."""
    first, time = layout.widths[0], layout.time
    shapes = _linear("time_embed.0", first, time) | _linear("time_embed.2", time, time)
    shapes |= _conv("input_blocks.0.0", 4, first)
    made = [first]
    for level, width in enumerate(layout.widths):
        for _ in range(layout.blocks):
            name = f"input_blocks.{len(made)}"
            shapes |= _residual(f"{name}.0", made[-1], width, time)
            if layout.attention[level]:
                shapes |= _transformer(f"{name}.1", width)
            made.append(width)
        if level + 1 < len(layout.widths):
            shapes |= _conv(f"input_blocks.{len(made)}.0.op", width, width)
            made.append(width)
    shapes |= _residual("middle_block.0", width, width, time) | _transformer("middle_block.1", width)
    return shapes | _residual("middle_block.2", width, width, time), made


def controlnet(layout=SHALLOW):
    """Keys and shapes of a ControlNet for ``checkpoint``, as the first ControlNet release saved it."""
    shapes, widths = _unet_down(layout)
    for block, width in enumerate(widths):
        shapes |= _conv(f"zero_convs.{block}.0", width, width, kernel=1)
    hints = (3, 16, 16, 32, 32, 96, 96, 256, layout.widths[0])
    for layer, (width_in, width_out) in enumerate(zip(hints, hints[1:], strict=False)):
        shapes |= _conv(f"input_hint_block.{2 * layer}", width_in, width_out)
    shapes |= _conv("middle_block_out.0", widths[-1], widths[-1], kernel=1)
    return {f"control_model.{key}": shape for key, shape in shapes.items()}


def lora(rank=8, layout=SHALLOW):
    """Keys and shapes of an LCM LoRA for ``checkpoint``: diffusers' module names with underscores."""
    places = {
        "down_blocks_0_attentions_0": layout.widths[0],
        "down_blocks_1_attentions_0": layout.widths[1],
        "mid_block_attentions_0": layout.widths[1],
        "up_blocks_0_attentions_0": layout.widths[1],
        "up_blocks_1_attentions_0": layout.widths[0],
    }
    shapes = {}
    for place, width in places.items():
        for layer, width_in in {"attn1_to_q": width, "attn2_to_k": CONTEXT, "attn2_to_v": CONTEXT}.items():
            name = f"lora_unet_{place}_transformer_blocks_0_{layer}"
            shapes |= {f"{name}.lora_down.weight": (rank, width_in), f"{name}.lora_up.weight": (width, rank)}
            shapes[f"{name}.alpha"] = ()
    return shapes


def text_encoder(width=768, layers=12, vocabulary=49408, tokens=77):
    """CLIP ViT-L/14's text model."""
    shapes = {"embeddings.token_embedding.weight": (vocabulary, width)}
    shapes |= {"embeddings.position_embedding.weight": (tokens, width)}
    for layer in range(layers):
        block = f"encoder.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{block}.self_attn.{name}", width, width)
        shapes |= _norm(f"{block}.layer_norm1", width) | _norm(f"{block}.layer_norm2", width)
        shapes |= _linear(f"{block}.mlp.fc1", width, 4 * width) | _linear(f"{block}.mlp.fc2", 4 * width, width)
    return shapes | _norm("final_layer_norm", width)


def autoencoder(widths=(128, 256, 512, 512)):
    """Stable Diffusion's autoencoder at its normal size."""
    shapes = _conv("encoder.conv_in", 3, widths[0]) | _conv("decoder.conv_in", 4, widths[-1])
    width = widths[0]
    for level, target in enumerate(widths):
        for block in range(2):
            shapes |= _vae_residual(f"encoder.down.{level}.block.{block}", width, target)
            width = target
        if level < len(widths) - 1:
            shapes |= _conv(f"encoder.down.{level}.downsample.conv", width, width)
    for level, target in reversed(list(enumerate(widths))):
        for block in range(3):
            shapes |= _vae_residual(f"decoder.up.{level}.block.{block}", width, target)
            width = target
        if level > 0:
            shapes |= _conv(f"decoder.up.{level}.upsample.conv", width, width)
    for half in ("encoder", "decoder"):
        shapes |= _vae_residual(f"{half}.mid.block_1", widths[-1], widths[-1])
        shapes |= _vae_residual(f"{half}.mid.block_2", widths[-1], widths[-1])
        shapes |= _norm(f"{half}.mid.attn_1.norm", widths[-1])
        for name in ("q", "k", "v", "proj_out"):
            shapes |= _conv(f"{half}.mid.attn_1.{name}", widths[-1], widths[-1], kernel=1)
    shapes |= _norm("encoder.norm_out", widths[-1]) | _conv("encoder.conv_out", widths[-1], 8)
    shapes |= _norm("decoder.norm_out", widths[0]) | _conv("decoder.conv_out", widths[0], 3)
    return shapes | _conv("quant_conv", 8, 8, kernel=1) | _conv("post_quant_conv", 4, 4, kernel=1)


def _residual(name, width_in, width_out, time=TIME):
    shapes = _norm(f"{name}.in_layers.0", width_in) | _conv(f"{name}.in_layers.2", width_in, width_out)
    shapes |= _linear(f"{name}.emb_layers.1", time, width_out)
    shapes |= _norm(f"{name}.out_layers.0", width_out) | _conv(f"{name}.out_layers.3", width_out, width_out)
    return shapes | (_conv(f"{name}.skip_connection", width_in, width_out, kernel=1) if width_in != width_out else {})


def _vae_residual(name, width_in, width_out):
    shapes = _norm(f"{name}.norm1", width_in) | _conv(f"{name}.conv1", width_in, width_out)
    shapes |= _norm(f"{name}.norm2", width_out) | _conv(f"{name}.conv2", width_out, width_out)
    return shapes | (_conv(f"{name}.nin_shortcut", width_in, width_out, kernel=1) if width_in != width_out else {})


def _transformer(name, width):
    block = f"{name}.transformer_blocks.0"
    shapes = _norm(f"{name}.norm", width) | _conv(f"{name}.proj_in", width, width, kernel=1)
    for attention, context in (("attn1", width), ("attn2", CONTEXT)):
        shapes |= _linear(f"{block}.{attention}.to_q", width, width, bias=False)
        shapes |= _linear(f"{block}.{attention}.to_k", context, width, bias=False)
        shapes |= _linear(f"{block}.{attention}.to_v", context, width, bias=False)
        shapes |= _linear(f"{block}.{attention}.to_out.0", width, width)
    for index in (1, 2, 3):
        shapes |= _norm(f"{block}.norm{index}", width)
    shapes |= _linear(f"{block}.ff.net.0.proj", width, 8 * width) | _linear(f"{block}.ff.net.2", 4 * width, width)
    return shapes | _conv(f"{name}.proj_out", width, width, kernel=1)


def _conv(name, width_in, width_out, kernel=3):
    return {f"{name}.weight": (width_out, width_in, kernel, kernel), f"{name}.bias": (width_out,)}


def _linear(name, width_in, width_out, bias=True):
    return {f"{name}.weight": (width_out, width_in)} | ({f"{name}.bias": (width_out,)} if bias else {})


def _norm(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def save(path, shapes, seed):
    generator = torch.Generator().manual_seed(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: _weights(key, shape, generator).half() for key, shape in shapes.items()}
    save_file(tensors, path, metadata={"format": "pt"})


def _weights(key, shape, generator):
    if key.endswith("final_layer_norm.bias"):
        return torch.full(shape, 0.02)  # A1111 divides by the mean of a prompt's states, which without it may be 0
    if key.endswith(".bias"):
        return torch.zeros(shape)
    if len(shape) == 1:
        return torch.ones(shape)
    if key.endswith(".alpha"):
        return torch.tensor(4.0)
    scale = 0.02 if "embedding" in key else 1 / math.sqrt(math.prod(shape[1:]))
    if "input_hint_block" in key:
        scale *= 1.7  # what SiLU takes away, as no norm gives it back here
    return torch.randn(shape, generator=generator) * scale


def _save_clip(path, seed):
    """A CLIP with few and narrow layers, as transformers saves it; texts are CLIP's own tokens."""
    from transformers import CLIPConfig, CLIPModel

    small = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = small | {"vocab_size": 49408, "max_position_embeddings": 77, "eos_token_id": 49407, "bos_token_id": 49406}
    vision = small | {"image_size": 224, "patch_size": 32}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.contiguous() for key, value in model.state_dict().items() if "position_ids" not in key}
    save_file(tensors, path, metadata={"format": "pt"})


class _RunsCode:
    """What a pickle must not do."""

    def __reduce__(self):
        return os.getcwd, ()


def _save_oracles(folder):
    """A small ImageReward, the head of an aesthetic predictor for ``WHOLE_CLIP``, and files that are no oracles."""
    save_file(small_files.image_reward_tensors(), folder / REWARD)
    torch.save(small_files.head_tensors("layers.", 64), folder / HEAD)
    torch.save({"weight": _RunsCode()}, folder / CODE)
    (folder / PAGE).write_text("<!DOCTYPE html><html></html>")
    (folder / HALF).write_bytes((folder / REWARD).read_bytes()[:100_000])
    save_file({"lora_unet_mid.lora_up.weight": torch.zeros(2, 2)}, folder / ADAPTER)
