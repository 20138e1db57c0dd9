"""The images that were kept, once and small."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from PIL import Image

from ..lettering import length, shortened, write
from ..samplers.decisions import KEPT
from .bars import Mark
from .numbers import counted, number
from .page import GAP, LINE, PAD, SMALL, Page, beside, stacked
from .thumbnails import paste

SMALLEST, LARGEST = 82, 480


def tiles(page: Page, places: Sequence[int], beside_pairs: bool) -> Iterator[Image.Image]:
    """Strips of tiles for the rows at these places, each with its number and score.

    Without pairs above there are fewer in a strip, and their scores are on a bar.
    """
    images = 1 + len(page.rows[places[0]].given)
    said = [line for place in places for line in _said(page, place)]
    narrowest = max(SMALLEST * images, *(math.ceil(length(line, SMALL)) for line in said))
    columns = max(1, (page.width + GAP) // (narrowest + GAP))
    if not beside_pairs:
        columns = min(columns, math.ceil(math.sqrt(2 * len(places) - 1)))
        colour = page.look.decisions[KEPT]
        marks = [Mark(page.rows[place].score, colour, False) for place in places]
        thresholds = {page.rows[place].threshold for place in places}  # several where each batch had its own
        cut = thresholds.pop() if len(thresholds) == 1 else None
        bar = page.axis.bar(marks, cut, page.width - 2 * PAD)
        yield stacked([bar], page.look.card, PAD, 0)
    width = (page.width + GAP) // columns - GAP
    for start in range(0, len(places), columns):
        strip = [_tile(page, place, width) for place in places[start : start + columns]]
        yield beside(strip, page.look.page, GAP)


def _said(page: Page, place: int) -> list[str]:
    """What stands under a tile, line by line."""
    row = page.rows[place]
    said = [page.names[place], number(row.score)]
    if row.tries is not None:
        said.append(counted(row.tries, "try", "tries"))
    if row.likeness is not None:
        said.append(f"likeness {number(row.likeness)}")
    return said


def _tile(page: Page, place: int, width: int) -> Image.Image:
    row, look = page.rows[place], page.look
    images = [*(image for _, image in row.given), row.after]
    slot = min((width + GAP // 2) // len(images) - GAP // 2, LARGEST)
    height = round(slot * page.shape)
    said = _said(page, place)
    tile = Image.new("RGB", (width, height + 4 + LINE * len(said)), look.page)
    for at, image in enumerate(images):
        left = at * (slot + GAP // 2)
        paste(tile, image, (left, 0, left + slot, height))
    for at, line in enumerate(said):
        write(tile, (0, height + 4 + LINE * at), shortened(line, SMALL, width), SMALL, look.faint if at else look.ink)
    return tile
