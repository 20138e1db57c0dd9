"""The receipt as a picture: each image before and after, with its scores and what it cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw, ImageFont

from ..decisions import KEPT, REDONE, REFINED, REGENERATED, REVERTED

THUMBNAIL, GAP, MARGIN, TEXT = 176, 12, 24, 16
BACKGROUND, CARD, INK, FAINT = "#f4f4f1", "#ffffff", "#1d1d1b", "#6b6b66"
COLOURS = {KEPT: "#2f7d4f", REFINED: "#b3541e", REGENERATED: "#7a3e9d", REDONE: "#8a6d1a", REVERTED: "#2a5f9e"}


@dataclass(frozen=True)
class Row:
    """One image's part of the receipt; ``before`` and ``after`` are ``[H, W, C]`` in [0, 1].

    decision: one of ``decisions.DECISIONS``. evaluations: the teacher's; None where they are not known.
    """

    before: torch.Tensor
    after: torch.Tensor
    decision: str
    score: float
    score_after: float | None
    evaluations: int | None
    prompt: str


def report_picture(rows: Sequence[Row], totals: Sequence[str]) -> Image.Image:
    """All rows as cards under the totals, in as many columns as make the picture about as wide as high."""
    card_width = 2 * THUMBNAIL + 3 * GAP + 20
    card_height = THUMBNAIL + 3 * GAP + 3 * (TEXT + 6)
    columns = min(len(rows), max(1, round(math.sqrt(len(rows) * card_height / card_width * 1.4))))
    lines = math.ceil(len(rows) / columns)
    heading = TEXT * 2 + 14 + len(totals) * (TEXT + 8) + GAP
    width = 2 * MARGIN + max(columns, 2) * (card_width + GAP) - GAP
    picture = Image.new("RGB", (width, 2 * MARGIN + heading + lines * (card_height + GAP) - GAP), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, MARGIN), "Understudy receipt", INK, _font(TEXT * 1.7))
    for line, text in enumerate(totals):
        draw.text((MARGIN, MARGIN + TEXT * 2 + 10 + line * (TEXT + 8)), text, INK, _font(TEXT))
    for place, row in enumerate(rows):
        left = MARGIN + place % columns * (card_width + GAP)
        top = MARGIN + heading + place // columns * (card_height + GAP)
        picture.paste(_card(row, place, card_width, card_height), (left, top))
    return picture


def _card(row: Row, place: int, width: int, height: int) -> Image.Image:
    card = Image.new("RGB", (width, height), CARD)
    draw = ImageDraw.Draw(card)
    colour = COLOURS.get(row.decision, INK)
    draw.rectangle((0, 0, width - 1, height - 1), outline=colour, width=2)
    right = width - GAP - THUMBNAIL
    _paste(card, row.before, GAP)
    _paste(card, row.after, right)
    middle, centre = (GAP + THUMBNAIL + right) / 2, GAP + THUMBNAIL / 2
    draw.polygon([(middle - 7, centre - 9), (middle + 8, centre), (middle - 7, centre + 9)], fill=colour)
    y = THUMBNAIL + 2 * GAP
    draw.text((GAP, y), f"{place}  {row.decision}", colour, _font(TEXT))
    _right(draw, width - GAP, y, _cost(row), FAINT)
    y += TEXT + 6
    score = f"score {_number(row.score)}"
    if row.score_after is not None:
        score += f", teacher's {_number(row.score_after)}"
    draw.text((GAP, y), score, INK, _font(TEXT))
    y += TEXT + 6
    draw.text((GAP, y), _shortened(row.prompt, width - 2 * GAP), FAINT, _font(TEXT - 2))
    return card


def _paste(card: Image.Image, image: torch.Tensor, left: int) -> None:
    """A thumbnail of the image in its square; small pictures are enlarged without smoothing."""
    pixels = image[..., :3].detach().float().clamp(0, 1).mul(255).round().byte().cpu().numpy()
    thumbnail = Image.fromarray(pixels)
    scale = THUMBNAIL / max(thumbnail.size)
    size = tuple(max(1, round(side * scale)) for side in thumbnail.size)
    thumbnail = thumbnail.resize(size, Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS)
    card.paste(thumbnail, (left + (THUMBNAIL - size[0]) // 2, GAP + (THUMBNAIL - size[1]) // 2))


def _right(draw: ImageDraw.ImageDraw, right: float, y: float, text: str, colour: str) -> None:
    font = _font(TEXT)
    draw.text((right - draw.textlength(text, font), y), text, colour, font)


def _shortened(text: str, width: float) -> str:
    """The text on one line, cut to ``width`` pixels with an ellipsis."""
    text, font = " ".join(text.split()), _font(TEXT - 2)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."


def _cost(row: Row) -> str:
    if row.decision == KEPT or (row.decision == REDONE and row.evaluations == 0):
        return "no teacher"
    return "cost not known" if row.evaluations is None else f"{row.evaluations} evaluations"


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"


def _font(size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
