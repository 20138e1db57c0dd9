"""The images that were kept, once and small."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from PIL import Image

from ..lettering import length, shortened, write
from ..samplers.decisions import KEPT
from .bars import Mark
from .numbers import counted, number
from .page import CARD, GAP, PAD, Page, beside, folded, lines, stacked
from .thumbnails import paste

SMALLEST, LARGEST, BETWEEN = 82, 480, 10


@dataclass(frozen=True)
class Kept:
    """The rows at these places, with a heading and the prompts that are not written elsewhere: the words beside the
    images or around them, whichever is lower."""

    page: Page
    places: Sequence[int]
    heading: str
    prompts: Sequence[str]
    width: int

    @property
    def height(self) -> int:
        return self._low if self._words_beside else self._high

    def drawn(self) -> Image.Image:
        page, told = self.page, (self.page, self.heading, self.prompts)
        if self._words_beside:
            title, below = _words(*told, self._side, page.detail.prompt)
            return beside([stacked([title, below], page.look.page, 0, 0), self._beside.drawn()], page.look.page, GAP)
        title, below = _words(*told, self.width, self._most)
        return stacked([title, self._around.drawn(), below], page.look.page, 0, GAP)

    @cached_property
    def _side(self) -> int:
        """The width of words beside the images."""
        if not self.prompts:
            return math.ceil(length(self.heading, self.page.text))
        in_one = len(self.places) * (_narrowest(self.page, self.places) + BETWEEN) - BETWEEN
        return max(CARD, self.width - GAP - in_one)

    @property
    def _most(self) -> int:
        return self.page.detail.prompt if self.width == CARD else self.page.detail.kept

    @cached_property
    def _around(self) -> Tiles:
        return Tiles(self.page, self.places, self.width)

    @cached_property
    def _beside(self) -> Tiles:
        return Tiles(self.page, self.places, self.width - self._side - GAP)

    def _lines(self, width: int, most: int) -> int:
        return len(folded(self.prompts, self.page.text, width, most))

    @cached_property
    def _high(self) -> int:
        below = self._lines(self.width, self._most)
        return self.page.line * (1 + below) + GAP + self._around.height + (GAP if below else 0)

    @cached_property
    def _low(self) -> int:
        words = self.page.line * (1 + self._lines(self._side, self.page.detail.prompt))
        return max(self._beside.height, words)

    @property
    def _words_beside(self) -> bool:
        return self.width - self._side - GAP >= CARD and self._low < self._high


def all_kept(page: Page, places: Sequence[int], heading: str, prompts: Sequence[str]) -> Iterator[Image.Image]:
    """The rows of a page without pairs: larger, with their scores on a bar."""
    look = page.look
    title, below = _words(page, heading, prompts, page.width, page.detail.kept)
    yield title
    marks = [Mark(page.rows[place].score, look.decisions[KEPT], False) for place in places]
    thresholds = {page.rows[place].threshold for place in places}  # several where each batch had its own
    cut = thresholds.pop() if len(thresholds) == 1 else None
    yield stacked([page.axis.bar(marks, cut, page.width - 2 * PAD)], look.card, PAD, 0)
    yield Tiles(page, places, page.width, fill=True).drawn()
    yield below


def _words(page: Page, heading: str, prompts: Sequence[str], width: int, most: int) -> list[Image.Image | None]:
    """The heading, and the prompts, each in ``most`` lines."""
    told = ([heading], page.look.decisions[KEPT]), (prompts, page.look.ink)
    return [lines(texts, page.text, width, colour, page.look.page, most) for texts, colour in told]


def _narrowest(page: Page, places: Sequence[int]) -> int:
    """A tile that has room for its pictures and its words."""
    images = 1 + len(page.rows[places[0]].given)
    said = [line for place in places for line in _said(page, place)]
    return max(SMALLEST * images, *(math.ceil(length(line, page.text)) for line in said))


class Tiles:
    """Strips of tiles, each with its number and score, as many in one as there is room for; ``fill``: as large as that
    leaves them."""

    def __init__(self, page: Page, places: Sequence[int], width: int, fill: bool = False):
        self.page, self.places = page, places
        self.columns = max(1, (width + BETWEEN) // (_narrowest(page, places) + BETWEEN))
        if fill:
            self.columns = math.ceil(len(places) / math.ceil(len(places) / self.columns))
        self.width = (width + BETWEEN) // self.columns - BETWEEN
        images = 1 + len(page.rows[places[0]].given)
        self.slot = min((self.width + GAP // 2) // images - GAP // 2, LARGEST)
        self.top = round(self.slot * page.shape) + 4  # of the words

    @property
    def height(self) -> int:
        words = max(len(_said(self.page, place)) for place in self.places)
        return math.ceil(len(self.places) / self.columns) * (self.top + words * self.page.line + GAP) - GAP

    def drawn(self) -> Image.Image:
        starts = range(0, len(self.places), self.columns)
        tiles = ([self._tile(place) for place in self.places[at : at + self.columns]] for at in starts)
        strips = [beside(strip, self.page.look.page, BETWEEN) for strip in tiles]
        return stacked(strips, self.page.look.page, 0, GAP)

    def _tile(self, place: int) -> Image.Image:
        row, look, line = self.page.rows[place], self.page.look, self.page.line
        said = _said(self.page, place)
        tile = Image.new("RGB", (self.width, self.top + line * len(said)), look.page)
        for at, image in enumerate([*(image for _, image in row.given), row.after]):
            left = at * (self.slot + GAP // 2)
            paste(tile, image, (left, 0, left + self.slot, self.top - 4))
        for at, words in enumerate(said):
            colour = look.faint if at else look.ink
            words = shortened(words, self.page.text, self.width)
            write(tile, (0, self.top + line * at), words, self.page.text, colour)
        return tile


def _said(page: Page, place: int) -> list[str]:
    """What stands under a tile, line by line."""
    row = page.rows[place]
    said = [page.names[place], number(row.score)]
    if row.tries is not None:
        said.append(counted(row.tries, "try", "tries"))
    if row.likeness is not None:
        said.append(f"likeness {number(row.likeness)}")
    return said
