"""The byte-pair tokenizer of OpenAI's CLIP, offline: CLIPScore, SD 1.x and both text encoders of SDXL use it."""

from __future__ import annotations

import html
import unicodedata
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "clip_bpe"
# Curly quotes, ligatures and full-width letters to plain ones, as ftfy has them.
PLAIN = {code: "'" for code in (0x02BC, *range(0x2018, 0x201C))} | {code: '"' for code in range(0x201C, 0x2020)}
PLAIN |= {code: unicodedata.normalize("NFKC", chr(code)) for code in (*range(0xFB00, 0xFB05), *range(0xFF01, 0xFFF0))}


@cache
def clip_tokenizer(pad_token: str = "<|endoftext|>"):
    """transformers' ``CLIPTokenizerFast`` on the vocabulary that ships with the pack, 77 tokens long.

    The fast one, because transformers 4's other reads Chinese and Japanese differently with and without ftfy.
    """
    from transformers import CLIPTokenizerFast

    # Positional, because transformers 5 renamed the arguments.
    return CLIPTokenizerFast(
        str(FOLDER / "vocab.json"), str(FOLDER / "merges.txt"), pad_token=pad_token, model_max_length=77
    )


def cleaned(text: str) -> str:
    """A text as OpenAI's CLIP, OpenCLIP and HPS tokenize it: entities resolved, quotes and widths plain, single spaces.

    What else ftfy repairs for them stays as it is here: text in a wrong encoding, control characters, rare digraphs.
    """
    return " ".join(html.unescape(html.unescape(text)).translate(PLAIN).split())
