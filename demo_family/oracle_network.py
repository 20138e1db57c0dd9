"""The demo oracle's network: it reads a picture as the words that would describe it."""

import torch
from torch import Tensor, nn

from .language import TOKEN_IDS, TOKENS, VOCABULARY_SIZE
from .render import SIDE


class SceneOracleNetwork(nn.Module):
    """Reads a picture as the eight tokens that would describe it, and scores a text by how probable its tokens are.

    A convolutional encoder sees 8x8 places; a transformer reads them with one question for each slot of the text. Id 0
    stands for "no word fits": a thing of no known shape, more than two things.
    """

    def __init__(self, width: int = 128, depth: int = 3, heads: int = 4):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width // 4, 5, stride=2, padding=2),
            _Block(width // 4),
            nn.Conv2d(width // 4, width // 2, 3, stride=2, padding=1),
            _Block(width // 2),
            _Block(width // 2),
            nn.Conv2d(width // 2, width, 3, stride=2, padding=1),
            _Block(width),
            _Block(width),
        )
        self.places = nn.Parameter(torch.randn(SIDE // 8 * SIDE // 8, width) * 0.02)
        self.questions = nn.Parameter(torch.randn(TOKENS, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.reader = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.words = nn.Linear(width, VOCABULARY_SIZE)
        self.words_here = nn.Linear(width, VOCABULARY_SIZE)
        fits = torch.zeros(TOKENS, VOCABULARY_SIZE, dtype=torch.bool)
        fits[:, 0] = True
        for (slot, _), token in TOKEN_IDS.items():
            fits[slot, token] = True
        self.register_buffer("fits", fits, persistent=False)

    def forward(self, pictures: Tensor, tokens: Tensor) -> Tensor:
        """Log-odds [B], float32, that pictures [B, 3, 64, 64] in [0, 1] show the texts of token ids [B, 8]."""
        logits, _ = self.read(pictures)
        each = logits.float().log_softmax(dim=-1).gather(-1, tokens[:, :, None])
        whole = each.sum(dim=(1, 2)).clamp(max=-1e-6)  # the log-probability; its log-odds must stay finite
        return whole - torch.log(-torch.expm1(whole))

    def read(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Logits over the vocabulary: for each slot [B, 8, V], and for the size, color and shape of the thing whose
        centre lies in each place [B, 64, 3, V], which only training uses. Words of other slots are at -inf.
        """
        seen = self.encoder(pictures * 2 - 1).flatten(2).transpose(1, 2)
        questions = self.questions.expand(len(pictures), -1, -1)
        answers = self.reader(torch.cat([questions, seen + self.places], dim=1))[:, :TOKENS]
        here = self.words_here(seen)[:, :, None].masked_fill(~self.fits[1:4], -torch.inf)
        return self.words(self.norm(answers)).masked_fill(~self.fits, -torch.inf), here


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
