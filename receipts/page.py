"""What the parts of a receipt's picture share, and how they are put together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image

from ..lettering import length, wrapped, write
from .bars import Axis
from .looks import Look
from .receipt import Row

# Pixels of a page two cards wide, which is to be read at half of that: a node in a graph is about 400 pixels wide.
CARD, MARGIN, GAP, PAD = 376, 16, 16, 14
NARROWEST = 2 * CARD + GAP
HEADLINE, TEXT, SMALL, LINE = 38, 26, 22, 29


@dataclass(frozen=True)
class Page:
    """``width`` is without the margins; ``shape``: height by width of each picture's place."""

    rows: Sequence[Row]
    names: Sequence[str]
    look: Look
    axis: Axis
    width: int
    shape: float


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


def lines(
    texts: Iterable[str], size: int, width: int, colour: str, background: str, most: int = 3
) -> Image.Image | None:
    """Each text in at most ``most`` lines; None for no text at all."""
    said = [line for text in texts if text for line in wrapped(text, size, width, most)]
    if not said:
        return None
    height = round(1.3 * size)
    picture = Image.new("RGB", (width, len(said) * height), background)
    for place, line in enumerate(said):
        write(picture, (0, place * height), line, size, colour)
    return picture


def fitted(text: str, size: float, width: float) -> float:
    """The size, at most this one, at which a text is so wide at most."""
    return size * min(1, width / max(length(text, size), 1))
