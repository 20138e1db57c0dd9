"""A ControlNet for the demo family's scene networks, in torch alone (Zhang et al. 2023).

A file holds the network's keys, and its metadata the config of the scene network that it is for.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..files import CheckpointError, read_header

HINT_WIDTHS = (16, 32, 64)  # each half the side of the one before
FEED_FORWARD = 4


class SceneControl(nn.Module):
    """Reads noisy latents and a condition picture; what it returns is added to a scene network's skips and middle.

    Its encoder has the names and, by :meth:`of`, the weights of the scene network's own, but for the middle block and
    the embedding of the pooled text, without which its file stays below two megabytes. Whatever joins the two is zero
    at first. config: of the scene network.
    """

    def __init__(self, config: Mapping):
        super().__init__()
        self.config = dict(config)
        widths, layers, first = (
            config["block_out_channels"],
            config["layers_per_block"],
            config["block_out_channels"][0],
        )
        self.conv_in = nn.Conv2d(config["in_channels"], first, 3, padding=1)
        self.time_embedding = _TimeEmbedding(first, 4 * first)
        self.down_blocks = nn.ModuleList()
        before, skips = first, [first]
        for level, (width, kind) in enumerate(zip(widths, config["down_block_types"], strict=True)):
            last = level == len(widths) - 1
            self.down_blocks.append(_Down(before, width, layers, "CrossAttn" in kind, last, config))
            skips += [width] * (layers + (not last))
            before = width
        self.hint = _hint(first)
        self.skip_joins = nn.ModuleList(_zeros(nn.Conv2d(width, width, 1)) for width in skips)
        self.middle_join = _zeros(nn.Conv2d(before, before, 1))

    @classmethod
    def of(cls, network: nn.Module) -> "SceneControl":
        """A copy of a ``SceneNetwork``'s encoder, which as yet changes nothing."""
        control = cls(network.config)
        weights = network.unet.state_dict()
        own = {key: weights.get(key, value) for key, value in control.state_dict().items()}
        control.load_state_dict(own)
        return control

    def forward(self, x: Tensor, t: Tensor, words: Tensor, condition: Tensor) -> tuple[list[Tensor], Tensor]:
        """What is to be added to the skips, one for each, and to the middle block's output.

        x: [B, 8, 8, 8] noisy latents; t: [B] in [0, 1000); words: [B, 8, 64], the embedded text; condition: [B, 3, 64,
        64] in [0, 1].
        """
        emb = self.time_embedding(t)
        x = self.conv_in(x) + self.hint(condition)
        skips = [x]
        for block in self.down_blocks:
            x = block(x, emb, words, skips)
        return [join(skip) for join, skip in zip(self.skip_joins, skips, strict=True)], self.middle_join(x)


def load_control(path: Path) -> SceneControl:
    """A ControlNet from its file, in fp32 on the CPU. Raises FileNotFoundError, or CheckpointError for another file."""
    from safetensors.torch import load_file

    said = read_header(path).metadata
    if said.get("understudy") != "demo-control" or said.get("base_trained", "frozen") != "frozen":
        raise CheckpointError(f"{path} is not a ControlNet of the demo family alone; expected the file of such a run")
    network = SceneControl(json.loads(said["config"]))
    network.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    return network


# ----------------------------------------------------------------------------------------------------------------------
# The blocks of diffusers' UNet2DConditionModel, by its names


class _TimeEmbedding(nn.Module):
    def __init__(self, width: int, out: int):
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(width, out), nn.Linear(out, out)

    def forward(self, t: Tensor) -> Tensor:
        half = self.linear_1.in_features // 2
        rates = torch.exp(torch.arange(half, device=t.device) * (-math.log(10000) / half))
        angles = t[:, None].float() * rates
        waves = torch.cat([angles.cos(), angles.sin()], dim=1).to(self.linear_1.weight.dtype)
        return self.linear_2(F.silu(self.linear_1(waves)))


class _Down(nn.Module):
    def __init__(self, before: int, width: int, layers: int, attends: bool, last: bool, config: Mapping):
        super().__init__()
        groups = config["norm_num_groups"]
        sizes = [before, *[width] * (layers - 1)]
        embedded = 4 * config["block_out_channels"][0]
        self.resnets = nn.ModuleList(_Resnet(size, width, embedded, groups) for size in sizes)
        self.attentions = nn.ModuleList(_Transformer(width, config) for _ in sizes if attends)
        self.downsamplers = nn.ModuleList([] if last else [_Downsample(width)])

    def forward(self, x: Tensor, emb: Tensor, words: Tensor, skips: list[Tensor]) -> Tensor:
        for at, resnet in enumerate(self.resnets):
            x = resnet(x, emb)
            if self.attentions:
                x = self.attentions[at](x, words)
            skips.append(x)
        for downsampler in self.downsamplers:
            x = downsampler(x)
            skips.append(x)
        return x


class _Downsample(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class _Resnet(nn.Module):
    def __init__(self, before: int, width: int, embedded: int, groups: int):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups, before), nn.GroupNorm(groups, width)
        self.conv1, self.conv2 = nn.Conv2d(before, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.time_emb_proj = nn.Linear(embedded, width)
        self.conv_shortcut = nn.Conv2d(before, width, 1) if before != width else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.time_emb_proj(F.silu(emb))[:, :, None, None]
        return self.conv_shortcut(x) + self.conv2(F.silu(self.norm2(h)))


class _Transformer(nn.Module):
    def __init__(self, width: int, config: Mapping):
        super().__init__()
        self.norm = nn.GroupNorm(config["norm_num_groups"], width, eps=1e-6)
        self.proj_in, self.proj_out = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        heads = config["attention_head_dim"]  # diffusers' historical name for the number of heads
        self.transformer_blocks = nn.ModuleList([_Block(width, heads, config["cross_attention_dim"])])

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        h = self.proj_in(self.norm(x))
        places = h.flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            places = block(places, words)
        return x + self.proj_out(places.transpose(1, 2).reshape(h.shape))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, context: int):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn1, self.attn2 = _Attention(width, heads, width), _Attention(width, heads, context)
        self.ff = _FeedForward(width)

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        h = self.norm1(x)
        x = x + self.attn1(h, h)
        x = x + self.attn2(self.norm2(x), words)
        return x + self.ff(self.norm3(x))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, context: int):
        super().__init__()
        self.heads, self.to_q = heads, nn.Linear(width, width, bias=False)
        self.to_k, self.to_v = nn.Linear(context, width, bias=False), nn.Linear(context, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        return self.to_out[0](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class _FeedForward(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.net = nn.ModuleList([_Gated(width), nn.Identity(), nn.Linear(FEED_FORWARD * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


class _Gated(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.proj = nn.Linear(width, 2 * FEED_FORWARD * width)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


def _hint(width: int) -> nn.Sequential:
    """Condition pictures [B, 3, H, W] to [B, width, H / 8, W / 8]."""
    layers, before = [], 3
    for wide in HINT_WIDTHS:
        layers += [nn.Conv2d(before, wide, 3, stride=2, padding=1), nn.SiLU()]
        before = wide
    return nn.Sequential(*layers, _zeros(nn.Conv2d(before, width, 3, padding=1)))


def _zeros(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
