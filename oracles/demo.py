"""The demo oracle: does a 64x64 picture show the scene that a text describes?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..files import fill
from ..models.demo.language import TOKENS, VOCABULARY_SIZE, parse, token_ids
from ..models.demo.render import SIDE
from .base import Oracle
from .tensors import TensorFile

MARK = "demo-oracle"


class SceneOracleNetwork(nn.Module):
    """A small convolutional encoder, and a transformer that reads its 64 places together with the text's eight tokens.

    forward: pictures [B, 3, 64, 64] in [0, 1] and token ids [B, 8] to logits [B, 7]: the first that the picture shows
    the scene, the others for each of ``checker.ATTRIBUTES``, which only training uses.
    """

    def __init__(self, width: int = 128, depth: int = 4, heads: int = 4, outputs: int = 7):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width // 4, 5, stride=2, padding=2),
            _Block(width // 4),
            nn.Conv2d(width // 4, width // 2, 3, stride=2, padding=1),
            _Block(width // 2),
            nn.Conv2d(width // 2, width, 3, stride=2, padding=1),
            _Block(width),
            _Block(width),
        )
        self.places = nn.Parameter(torch.randn(SIDE // 8 * SIDE // 8, width) * 0.02)
        self.text = nn.Embedding(VOCABULARY_SIZE, width)
        self.slots = nn.Parameter(torch.randn(TOKENS, width) * 0.02)
        self.question = nn.Parameter(torch.randn(1, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.reader = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)

    def forward(self, pictures: Tensor, tokens: Tensor) -> Tensor:
        seen = self.encoder(pictures * 2 - 1).flatten(2).transpose(1, 2) + self.places
        asked = self.text(tokens) + self.slots
        question = self.question.expand(len(pictures), 1, -1)
        read = self.reader(torch.cat([question, asked, seen], dim=1))
        return self.head(self.norm(read[:, 0]))


class _Block(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(8, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(8, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class DemoOracle(Oracle):
    """Scores are logits: 0 where the network holds "shows the scene" and "does not" for equally likely.

    Prompts are free text in the demo's language; other words raise ``PromptError``. Pictures of another size than
    64x64 are resized.
    """

    family = "demo"
    unit = "logit that the picture shows the scene"

    def __init__(self, network: SceneOracleNetwork, fingerprint: str):
        self.network, self.fingerprint = network, fingerprint

    def prepare(self, images: Tensor) -> Tensor:
        if images.shape[-2:] != (SIDE, SIDE):
            images = F.interpolate(images, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 1)
        return images

    def score_prepared(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        weight = self.network.head.weight
        tokens = torch.tensor([token_ids(parse(prompt)) for prompt in prompts], device=weight.device)
        return self.network(pixels.to(weight.dtype), tokens)[:, 0]


def fits(file: TensorFile) -> bool:
    """Whether a file is a demo oracle; its metadata says so."""
    return file.metadata.get("understudy") == MARK


def load(file: TensorFile, family: str, fingerprint: str, dtype: torch.dtype, encoder: None) -> DemoOracle:
    return DemoOracle(fill(file.path, SceneOracleNetwork(), file, dtype), fingerprint)
