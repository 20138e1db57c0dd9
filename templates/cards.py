"""Thumbnails for templates of models that cannot run where they are made: drawn cards, in the receipts' dark look.

A card shows what a run does, and no picture that another model made: images are stars.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw

from ..lettering import length, shortened, wrapped, write
from ..receipts.looks import DARK
from ..samplers.decisions import KEPT, REFINED

SIDE, MARGIN, PAD, GAP = 600, 32, 18, 16
TITLE, TEXT, LINE = 46, 27, 36
DRAWN = 3  # how many times as large the stars are drawn, for smooth edges
GOLD = "#ffc94d"  # the star of the pack's icon
INNER, DASHES = 0.42, 2  # a star's inner corners by its points; dashes on each of its edges


def card(title: str, lines: Sequence[tuple[str, str]], rows: Sequence[str]) -> Image.Image:
    """A square picture, RGB.

    title: at most two lines. lines: who and what, as ("student", "8 steps"). rows: of one length, a letter for each
    star, as in ``MARKS``.
    """
    picture = Image.new("RGB", (SIDE, SIDE), DARK.page)
    y = MARGIN
    for line in wrapped(title, TITLE, SIDE - 2 * MARGIN, 2):
        write(picture, (MARGIN, y), line, TITLE, DARK.ink)
        y += round(1.25 * TITLE)
    bottom = SIDE - MARGIN - LINE * len(lines) - 2 * PAD
    stars = drawn(rows, SIDE - 2 * MARGIN, bottom - y - 2 * GAP)
    picture.paste(stars, ((SIDE - stars.width) // 2, (y + bottom - stars.height) // 2))
    picture.paste(DARK.card, (MARGIN, bottom, SIDE - MARGIN, SIDE - MARGIN))
    left = MARGIN + PAD
    column = left + max(length(who, TEXT) for who, _ in lines) + GAP
    for place, (who, what) in enumerate(lines):
        top = bottom + PAD + LINE * place
        write(picture, (left, top), who, TEXT, DARK.faint)
        write(picture, (column, top), shortened(what, TEXT, SIDE - left - column), TEXT, DARK.ink)
    return picture


def drawn(rows: Sequence[str], width: int, height: int) -> Image.Image:
    """The stars, as large as they fit into width x height pixels."""
    columns = len(rows[0])
    side = DRAWN * min(width // columns, height // len(rows))
    sheet = Image.new("RGB", (side * columns, side * len(rows)), DARK.page)
    draw = ImageDraw.Draw(sheet)
    for y, row in enumerate(rows):
        for x, letter in enumerate(row):
            MARKS[letter](draw, ((x + 0.5) * side, (y + 0.5) * side), 0.44 * side)
    return sheet.resize((sheet.width // DRAWN, sheet.height // DRAWN), Image.Resampling.LANCZOS)


Point = tuple[float, float]


def _corners(centre: Point, radius: float) -> list[Point]:
    """Of a star with five points, the first up."""
    x, y = centre
    turns = [(radius * (INNER if k % 2 else 1), math.pi * (k / 5 - 0.5)) for k in range(10)]
    return [(x + r * math.cos(turn), y + r * math.sin(turn)) for r, turn in turns]


def _full(colour: str) -> Callable:
    return lambda draw, centre, radius: draw.polygon(_corners(centre, radius), colour)


def _outline(colour: str) -> Callable:
    """Dashes, as the student's star in the pack's icon."""

    def mark(draw: ImageDraw.ImageDraw, centre: Point, radius: float) -> None:
        corners = _corners(centre, 0.9 * radius)
        for (x, y), (to_x, to_y) in zip(corners, [*corners[1:], corners[0]], strict=True):
            for dash in range(DASHES):
                ends = [(x + (to_x - x) * t, y + (to_y - y) * t) for t in (dash / DASHES, (dash + 0.6) / DASHES)]
                draw.line(ends, colour, width=max(1, round(radius / 8)))

    return mark


def _arrow(draw: ImageDraw.ImageDraw, centre: Point, radius: float) -> None:
    (x, y), half = centre, 0.5 * radius
    draw.line([(x, y - half), (x, y + half)], DARK.faint, width=max(1, round(radius / 8)))
    draw.polygon([(x - half, y), (x + half, y), (x, y + radius * 0.7)], DARK.faint)


def _nothing(draw: ImageDraw.ImageDraw, centre: Point, radius: float) -> None:
    """An empty place."""


MARKS = {
    "*": _full(DARK.decisions[KEPT]),
    "o": _outline(DARK.decisions[REFINED]),
    "+": _full(GOLD),
    "v": _arrow,
    ".": _nothing,
}
REDONE = ["**o*", "..v.", "**+*"]  # of four images the worst
