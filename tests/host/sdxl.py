"""A Stable Diffusion XL checkpoint with random weights, made once: ComfyUI must take it for one, so it is a large file.

ComfyUI knows SDXL by its transformer depths, its 2048 wide context and the 320 channels of its first level. All other
levels are as narrow as that one here.
"""

import hashlib
import os
from pathlib import Path

import torch
from safetensors.torch import save_file

from .checkpoints import CHANNELS, TIME, _conv, _linear, _norm, _residual, _weights, autoencoder, text_encoder
from .environment import cache_dir, locked

SDXL = "understudy-test-sdxl.safetensors"
DEPTHS = (0, 2, 10)  # of the transformers at each level; there are two residual blocks in each
CONTEXT, POOLED, SIZES = 2048, 1280, 6 * 256


def sdxl_checkpoint():
    """The path of the file, in a folder of its own."""
    folder = cache_dir() / "sdxl"
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    path = folder / recipe / SDXL
    folder.mkdir(exist_ok=True)
    with locked(folder / "sdxl.lock"):
        if not path.exists():
            for old in folder.glob(f"*/{SDXL}"):
                old.unlink()
            path.parent.mkdir(exist_ok=True)
            generator = torch.Generator().manual_seed(6)
            # Drawn once and cut to each shape: drawing a billion numbers takes longer than the tests.
            pool = torch.randn(50_000_000, generator=generator)
            tensors = {key: _cut(pool, key, shape, generator).half() for key, shape in checkpoint().items()}
            save_file(tensors, partial := path.with_suffix(".partial"), metadata={"format": "pt"})
            os.replace(partial, path)
    return path


def _cut(pool, key, shape, generator):
    size = torch.Size(shape).numel()
    if len(shape) < 2 or size > len(pool):
        return _weights(key, shape, generator)
    scale = 0.02 if "embedding" in key else (size // shape[0]) ** -0.5
    start = int(torch.randint(len(pool) - size + 1, (), generator=generator))
    return pool[start : start + size].view(shape) * scale


def checkpoint():
    """Keys and shapes."""
    shapes = {f"model.diffusion_model.{key}": shape for key, shape in unet().items()}
    shapes |= {f"first_stage_model.{key}": shape for key, shape in autoencoder().items()}
    first, second = "conditioner.embedders.0.transformer.text_model.", "conditioner.embedders.1.model."
    shapes |= {first + key: shape for key, shape in text_encoder().items()}
    return shapes | {second + key: shape for key, shape in open_clip().items()}


def unet():
    width = CHANNELS
    shapes = _linear("time_embed.0", CHANNELS, TIME) | _linear("time_embed.2", TIME, TIME)
    shapes |= _linear("label_emb.0.0", POOLED + SIZES, TIME) | _linear("label_emb.0.2", TIME, TIME)
    shapes |= _conv("input_blocks.0.0", 4, width)
    block = 1
    for level, depth in enumerate(DEPTHS):
        if level > 0:
            shapes |= _conv(f"input_blocks.{block}.0.op", width, width)
            block += 1
        for _ in range(2):
            shapes |= _residual(f"input_blocks.{block}.0", width, width)
            shapes |= _transformers(f"input_blocks.{block}.1", width, depth)
            block += 1
    shapes |= _residual("middle_block.0", width, width) | _residual("middle_block.2", width, width)
    shapes |= _transformers("middle_block.1", width, DEPTHS[-1])
    block = 0
    for level, depth in reversed(list(enumerate(DEPTHS))):
        for place in range(3):
            shapes |= _residual(f"output_blocks.{block}.0", width + width, width)
            shapes |= _transformers(f"output_blocks.{block}.1", width, depth)
            if level > 0 and place == 2:
                shapes |= _conv(f"output_blocks.{block}.2.conv", width, width)
            block += 1
    return shapes | _norm("out.0", width) | _conv("out.2", width, 4)


def open_clip(width=1280, layers=32, vocabulary=49408, tokens=77):
    """The text half of OpenCLIP ViT-bigG-14."""
    shapes = {"token_embedding.weight": (vocabulary, width), "positional_embedding": (tokens, width)}
    shapes |= {"text_projection": (width, POOLED), "logit_scale": ()} | _norm("ln_final", width)
    for layer in range(layers):
        block = f"transformer.resblocks.{layer}"
        shapes |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
        shapes |= _linear(f"{block}.attn.out_proj", width, width)
        shapes |= _linear(f"{block}.mlp.c_fc", width, 4 * width) | _linear(f"{block}.mlp.c_proj", 4 * width, width)
        shapes |= _norm(f"{block}.ln_1", width) | _norm(f"{block}.ln_2", width)
    return shapes


def _transformers(name, width, depth):
    if depth == 0:
        return {}
    shapes = _norm(f"{name}.norm", width) | _linear(f"{name}.proj_in", width, width)
    for layer in range(depth):
        block = f"{name}.transformer_blocks.{layer}"
        for attention, context in (("attn1", width), ("attn2", CONTEXT)):
            shapes |= _linear(f"{block}.{attention}.to_q", width, width, bias=False)
            shapes |= _linear(f"{block}.{attention}.to_k", context, width, bias=False)
            shapes |= _linear(f"{block}.{attention}.to_v", context, width, bias=False)
            shapes |= _linear(f"{block}.{attention}.to_out.0", width, width)
        for index in (1, 2, 3):
            shapes |= _norm(f"{block}.norm{index}", width)
        shapes |= _linear(f"{block}.ff.net.0.proj", width, 8 * width) | _linear(f"{block}.ff.net.2", 4 * width, width)
    return shapes | _linear(f"{name}.proj_out", width, width)
