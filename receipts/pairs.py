"""The images that the teacher redid, large: before and after, with their scores on a bar."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw

from ..lettering import length, wrapped, write
from ..samplers.decisions import REDONE, REVERTED
from .bars import RADIUS, Mark, threshold_in_words
from .letters import fitted
from .looks import Look
from .numbers import counted, number
from .page import CARD, GAP, NARROWEST, PAD, Page, beside, lines, stacked
from .receipt import Row
from .thumbnails import paste

ARROW, FRAME = 34, 5  # the room between before and after; of the frame around the one that stays
HIGHEST = CARD  # a picture's place
NOT_SHOWN = "not at hand"
WORDS = {REVERTED: "put back"}


def arranged(count: int, given: bool, alone: bool) -> tuple[int, int]:
    """How many cards are in a strip, and their width, so that the page is rather wide than high, as nodes and screens
    are; ``given``: they have pictures that others are made from; ``alone``: nothing stands beside a single one."""
    if given:
        return math.ceil(math.sqrt(count)), NARROWEST
    strips = max(1, round(math.sqrt(count / 2.5)))  # as many as make a page of cards, twice as high as wide, a square
    return (1, NARROWEST) if count < 2 and alone else (math.ceil(count / strips), CARD)


def pairs(
    page: Page, places: Sequence[int], columns: int, width: int, prompts: dict[str, str]
) -> Iterator[Image.Image]:
    """Strips of so many cards, so wide, for the rows at these places; each of the prompts is written on the first that
    has it."""
    first: dict[str, int] = {}
    cards = []
    for place in places:
        prompt = page.rows[place].prompt
        text = f"prompt: as {page.names[first[prompt]]}" if prompt in first else prompts.get(prompt, "")
        if text:
            first.setdefault(prompt, place)
        cards.append(_card(page, place, text, width - 2 * PAD))
    for start in range(0, len(places), columns):
        strip = cards[start : start + columns]
        yield beside(strip, page.look.page, GAP, fill=page.look.card)


def _card(page: Page, place: int, text: str, width: int) -> Image.Image:
    """The pictures over all that is said of them."""
    row, look = page.rows[place], page.look
    marks = _marks(row, look)
    told = page.detail.words or _shared_threshold(page) is None
    bar = page.axis.bar(marks, row.threshold, width, told)
    said = [bar, lines([text], page.text, width, look.ink, look.card, page.detail.prompt)]
    pictures = [_pictures(page, row, width), _labels(page, row, marks, width)]
    return stacked([_title(page, place, width), *pictures, *said], look.card, PAD, 8)


def legend(page: Page, places: Sequence[int]) -> Image.Image:
    """What the marks on the cards of these places are, and the threshold of all of them, in a line."""
    look, threshold = page.look, _shared_threshold(page)
    labels = [Label("student", mark=Mark(0, look.ink, False))]
    if made := {page.rows[place].decision for place in places if page.rows[place].score_after is not None}:
        words = " or ".join(sorted({_maker(decision) for decision in made}, reverse=True))
        colour = look.decisions[made.pop()] if len(made) == 1 else look.ink
        labels.append(Label(words, mark=Mark(0, colour, True)))
    labels += [] if threshold is None else [Label(threshold_in_words(threshold))]
    strip, left = Image.new("RGB", (page.width, page.line), look.page), 0
    for label in labels:
        wide = label.width(page.text)
        label.draw(strip, left + wide / 2, 0, page.width, page)
        left += wide + 2 * GAP
    return strip


def _maker(decision: str) -> str:
    """Of an image's second version: by whom one was redone is not known."""
    return REDONE if decision == REDONE else "teacher"


def _shared_threshold(page: Page) -> float | None:
    """The one of all images; None where there is none, or batches had their own."""
    thresholds = {row.threshold for row in page.rows}
    return thresholds.pop() if len(thresholds) == 1 else None


def _marks(row: Row, look: Look) -> list[Mark]:
    """The student's score and, where it is known, the teacher's."""
    marks = [Mark(row.score, look.ink, False)]
    if row.score_after is not None:
        marks.append(Mark(row.score_after, look.decisions[row.decision], True))
    return marks


def _title(page: Page, place: int, width: int) -> Image.Image:
    """An image's name and what became of it, with what that cost on the same line, if there is room, or below."""
    row, look = page.rows[place], page.look
    name, word = page.names[place], WORDS.get(row.decision, row.decision)
    cost = _cost(row) if page.detail.words else ""
    one_line = length(f"{name}   {cost}   {word}", page.text) <= width
    title = Image.new("RGB", (width, page.line * (1 if one_line else 2)), look.card)
    size = fitted(f"{name}  {word}", page.text, width)
    write(title, (0, 0), name, size, look.ink)
    write(title, (width, 0), word, size, look.decisions[row.decision], "ra")
    at = (length(f"{name}  ", size), 0) if one_line else (0, page.line)
    write(title, at, cost, fitted(cost, page.text, width), look.faint)
    return title


def _cost(row: Row) -> str:
    words = "cost not known" if row.evaluations is None else counted(row.evaluations, "evaluation", "evaluations")
    if row.decision == REDONE and row.evaluations == 0:
        words = "by a later node"
    return words if row.tries is None else f"{words}, {counted(row.tries, 'try', 'tries')}"


def _slots(page: Page, row: Row, width: int) -> list[tuple[int, int]]:
    """Left and right of the place of each of a row's pictures, of which the last two are before and after."""
    count = len(row.given) + 2
    slot = (width - 2 * FRAME - ARROW - GAP * len(row.given)) // count
    lefts = [FRAME + place * (slot + GAP) for place in range(count - 1)]
    return [(left, left + slot) for left in [*lefts, lefts[-1] + slot + ARROW]]


def _pictures(page: Page, row: Row, width: int) -> Image.Image:
    look, colour = page.look, page.look.decisions[row.decision]
    slots = _slots(page, row, width)
    height = min(round((slots[0][1] - slots[0][0]) * page.shape), HIGHEST)
    strip = Image.new("RGB", (width, height + 2 * FRAME), look.card)
    draw = ImageDraw.Draw(strip)
    back = row.decision == REVERTED
    images = [image for _, image in row.given] + [row.before, row.teacher if back else row.after]
    for (left, right), image in zip(slots, images, strict=True):
        if image is None:
            for place, line in enumerate(wrapped(NOT_SHOWN, page.text, right - left, 3)):
                write(strip, (left, FRAME + place * page.line), line, page.text, look.faint)
        else:
            paste(strip, image, (left, FRAME, right, FRAME + height))
    left, right = slots[-2 if back else -1]
    draw.rectangle((left - FRAME, 0, right + FRAME - 1, height + 2 * FRAME - 1), None, colour, FRAME - 1)
    middle, centre, size = (slots[-2][1] + slots[-1][0]) / 2, strip.height / 2, -8 if back else 8
    draw.polygon([(middle - size, centre - 10), (middle + size, centre), (middle - size, centre + 10)], colour)
    return strip


def _labels(page: Page, row: Row, marks: Sequence[Mark], width: int) -> Image.Image:
    """Below each picture what it is, with its mark on the bar and its score, and how alike it is to its source."""
    slots = _slots(page, row, width)
    room = min(slots[-1][1] - slots[-1][0] + ARROW, width / 2) - 6
    columns = [[Label(name)] for name, _ in row.given]
    facts = zip(("student", _maker(row.decision)), [*marks, None], (row.likeness, row.likeness_after), strict=False)
    for word, mark, likeness in facts:
        column = [Label(word if page.detail.words else "", number(mark.score), mark) if mark else Label(word)]
        columns.append(column if likeness is None else [*column, Label("likeness", number(likeness))])
    if any(label.width(page.text) > room for column in columns for label in column):
        columns = [[part for label in column for part in label.parts()] for column in columns]
    labels = Image.new("RGB", (width, page.line * max(map(len, columns))), page.look.card)
    for (left, right), column in zip(slots, columns, strict=True):
        for place, label in enumerate(column):
            label.draw(labels, (left + right) / 2, place * page.line, room, page)
    return labels


class Label(NamedTuple):
    """A word, a number or both, with a mark before them."""

    word: str
    value: str = ""
    mark: Mark | None = None

    @property
    def text(self) -> str:
        return f"{self.word} {self.value}".strip()

    @property
    def indent(self) -> int:
        return 2 * RADIUS + 9 if self.mark else 0

    def width(self, size: float) -> float:
        return self.indent + length(self.text, size)

    def parts(self) -> Iterator[Label]:
        """The word, and the number with the mark, each to be on a line of its own."""
        yield Label(self.word)
        if self.value:
            yield Label("", self.value, self.mark)

    def draw(self, picture: Image.Image, middle: float, top: int, room: float, page: Page) -> None:
        """Around the middle, but inside of the picture."""
        size = fitted(self.text, page.text, room - self.indent)
        wide = self.width(size)
        left = min(max(middle - wide / 2, 0), picture.width - wide)
        write(picture, (left + self.indent, top), self.text, size, page.look.ink if self.mark else page.look.faint)
        if self.mark is not None:
            self.mark.draw(picture, left + RADIUS + 1, top + 0.6 * page.text, page.look.card)
