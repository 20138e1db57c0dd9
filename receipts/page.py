"""What the parts of a receipt's picture share, and how they are put together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image

from ..lettering import wrapped, write
from .bars import Axis
from .letters import LINE
from .looks import Look
from .receipt import Row

# Pixels. A page one or two cards wide is shown about 300 wide in a graph (templates of models), one of three about 415
# (the demo): so large that its text has eleven of the screen there.
CARD, MARGIN, GAP, PAD = 376, 16, 16, 14
NARROWEST, USUAL = 2 * CARD + GAP, 3 * CARD + 2 * GAP
HEADLINE, TEXT = 44, 32
MOST = 1.25  # how much larger texts are on a wider page: as they have room on its cards


class Detail(NamedTuple):
    """How much is written. prompt: lines of one in the width of a card; kept: those in the width of a page, 0 for no
    prompt of images that were kept. words: whether each card has what a legend says as well, and what it cost."""

    prompt: int = 5
    kept: int = 3
    words: bool = True


@dataclass(frozen=True)
class Page:
    """``width`` is without the margins; ``shape``: height by width of each picture's place; ``text``: the size of all
    text but the headline."""

    rows: Sequence[Row]
    names: Sequence[str]
    look: Look
    axis: Axis
    width: int
    shape: float
    text: int
    detail: Detail

    @property
    def line(self) -> int:
        """The height of a line of text."""
        return round(LINE * self.text)


def stacked(parts: Iterable[Image.Image | None], background: str, margin: int, gap: int) -> Image.Image:
    """Pictures from top to bottom, those that are None left out."""
    parts = [part for part in parts if part is not None]
    size = max(part.width for part in parts), sum(part.height + gap for part in parts) - gap
    picture = Image.new("RGB", (size[0] + 2 * margin, size[1] + 2 * margin), background)
    top = margin
    for part in parts:
        picture.paste(part, (margin, top))
        top += part.height + gap
    return picture


def beside(parts: Sequence[Image.Image], background: str, gap: int, fill: str | None = None) -> Image.Image:
    """Pictures from left to right; ``fill`` makes lower ones as high as the others."""
    size = sum(part.width + gap for part in parts) - gap, max(part.height for part in parts)
    picture = Image.new("RGB", size, background)
    left = 0
    for part in parts:
        if fill:
            picture.paste(fill, (left, 0, left + part.width, picture.height))
        picture.paste(part, (left, 0))
        left += part.width + gap
    return picture


def folded(texts: Iterable[str], size: int, width: int, most: int) -> list[str]:
    """The lines of texts, each in at most ``most``."""
    return [line for text in texts if text for line in wrapped(text, size, width, most)]


def lines(
    texts: Iterable[str], size: int, width: int, colour: str, background: str, most: int = 3
) -> Image.Image | None:
    """Each text in at most ``most`` lines; None for no text at all."""
    said = folded(texts, size, width, most)
    if not said:
        return None
    height = round(LINE * size)
    picture = Image.new("RGB", (width, len(said) * height), background)
    for place, line in enumerate(said):
        write(picture, (0, place * height), line, size, colour)
    return picture
