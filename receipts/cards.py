"""The receipt as a picture: each image before and after, with its scores and what it cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw

from ..lettering import drawable, labels, shortened, wrapped, write
from ..samplers.decisions import KEPT, REDONE, REFINED, REGENERATED, REVERTED
from .receipt import Row

THUMBNAIL, GAP, MARGIN, TEXT = 176, 12, 24, 16
BACKGROUND, CARD, INK, FAINT = "#f4f4f1", "#ffffff", "#1d1d1b", "#6b6b66"
COLOURS = {KEPT: "#2f7d4f", REFINED: "#b3541e", REGENERATED: "#7a3e9d", REDONE: "#8a6d1a", REVERTED: "#2a5f9e"}


def report_picture(rows: Sequence[Row], totals: Sequence[str]) -> Image.Image:
    """All rows as cards under the totals, in as many columns as make the picture about as wide as high."""
    card_width = 2 * THUMBNAIL + 3 * GAP + 20
    card_height = THUMBNAIL + 3 * GAP + 3 * (TEXT + 6)
    columns = min(len(rows), max(1, round(math.sqrt(len(rows) * card_height / card_width * 1.4))))
    lines = math.ceil(len(rows) / columns)
    width = 2 * MARGIN + max(columns, 2) * (card_width + GAP) - GAP
    prompts, note = labels([row.prompt for row in rows], "the metadata")
    totals = [*totals, *filter(None, [note])]
    if not all(map(drawable, totals)):
        totals.append("no font on this machine can write these lines whole; the metadata has them")
    said = [line for text in totals for line in wrapped(text, TEXT, width - 2 * MARGIN, 3)]
    heading = TEXT * 2 + 14 + len(said) * (TEXT + 8) + GAP
    picture = Image.new("RGB", (width, 2 * MARGIN + heading + lines * (card_height + GAP) - GAP), BACKGROUND)
    write(picture, (MARGIN, MARGIN), "Understudy receipt", TEXT * 1.7, INK)
    for line, text in enumerate(said):
        write(picture, (MARGIN, MARGIN + TEXT * 2 + 10 + line * (TEXT + 8)), text, TEXT, INK)
    for place, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        left = MARGIN + place % columns * (card_width + GAP)
        top = MARGIN + heading + place // columns * (card_height + GAP)
        picture.paste(_card(row, prompt, place, card_width, card_height), (left, top))
    return picture


def _card(row: Row, prompt: str, place: int, width: int, height: int) -> Image.Image:
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
    write(card, (GAP, y), f"{place}  {row.decision}", TEXT, colour)
    write(card, (width - GAP, y), _cost(row), TEXT, FAINT, "ra")
    y += TEXT + 6
    score = f"score {_number(row.score)}"
    if row.score_after is not None:
        score += f", teacher's {_number(row.score_after)}"
    write(card, (GAP, y), score, TEXT, INK)
    y += TEXT + 6
    write(card, (GAP, y), shortened(prompt, TEXT - 2, width - 2 * GAP), TEXT - 2, FAINT)
    return card


def _paste(card: Image.Image, image: torch.Tensor, left: int) -> None:
    """A thumbnail of the image in its square; small pictures are enlarged without smoothing."""
    pixels = image[..., :3].detach().float().clamp(0, 1).mul(255).round().byte().cpu().numpy()
    thumbnail = Image.fromarray(pixels)
    scale = THUMBNAIL / max(thumbnail.size)
    size = tuple(max(1, round(side * scale)) for side in thumbnail.size)
    thumbnail = thumbnail.resize(size, Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS)
    card.paste(thumbnail, (left + (THUMBNAIL - size[0]) // 2, GAP + (THUMBNAIL - size[1]) // 2))


def _cost(row: Row) -> str:
    if row.decision == KEPT or (row.decision == REDONE and row.evaluations == 0):
        return "no teacher"
    return "cost not known" if row.evaluations is None else f"{row.evaluations} evaluations"


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"
