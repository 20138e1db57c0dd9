"""The byte-pair tokenizer of OpenAI's CLIP, offline: CLIPScore, SD 1.x and both text encoders of SDXL use it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "clip_bpe"


@cache
def clip_tokenizer(pad_token: str = "<|endoftext|>"):
    """transformers' ``CLIPTokenizer`` on the vocabulary that ships with the pack, 77 tokens long."""
    from transformers import CLIPTokenizer

    # Positional, because transformers 5 renamed the arguments.
    return CLIPTokenizer(
        str(FOLDER / "vocab.json"), str(FOLDER / "merges.txt"), pad_token=pad_token, model_max_length=77
    )
