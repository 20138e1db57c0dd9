"""The images that the teacher redid, large: before and after, with their scores on a bar."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from PIL import Image, ImageDraw

from ..lettering import length, wrapped, write
from ..samplers.decisions import REDONE, REVERTED
from .bars import RADIUS, Mark
from .looks import Look
from .numbers import counted, number
from .page import CARD, GAP, LINE, NARROWEST, PAD, SMALL, TEXT, Page, beside, fitted, lines, stacked
from .receipt import Row
from .thumbnails import paste

ARROW, FRAME = 34, 5  # the room between before and after; of the frame around the one that stays
NOT_SHOWN = "what the teacher made is not at hand"
WORDS = {REVERTED: "put back"}


def arranged(count: int, given: bool) -> tuple[int, int]:
    """How many cards are in a strip, and their width, so that the page is rather wide than high, as nodes and screens
    are; ``given``: they have pictures that others are made from."""
    if given:
        return math.ceil(math.sqrt(count / 2)), NARROWEST
    return (1, NARROWEST) if count < 2 else (math.ceil(math.sqrt(1.5 * count)), CARD)


def pairs(page: Page, places: Sequence[int], prompts: dict[str, str]) -> Iterator[Image.Image]:
    """Strips of cards for the rows at these places; each of the prompts is written on the first that has it."""
    columns, width = arranged(len(places), bool(page.rows[0].given))
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
    said = [page.axis.bar(marks, row.threshold, width), lines([text], SMALL, width, look.ink, look.card)]
    pictures = [_pictures(page, row, width), _labels(page, row, marks, width)]
    return stacked([_title(page, place, width), *pictures, *said], look.card, PAD, 8)


def _marks(row: Row, look: Look) -> list[Mark]:
    """The student's score and, where it is known, the teacher's."""
    marks = [Mark(row.score, look.ink, False)]
    if row.score_after is not None:
        marks.append(Mark(row.score_after, look.decisions[row.decision], True))
    return marks


def _title(page: Page, place: int, width: int) -> Image.Image:
    row, look = page.rows[place], page.look
    name, word, cost = page.names[place], WORDS.get(row.decision, row.decision), _cost(row)
    title = Image.new("RGB", (width, TEXT + LINE + 8), look.card)
    size = fitted(f"{name}  {word}", TEXT, width)
    write(title, (0, 0), name, size, look.ink)
    write(title, (width, 0), word, size, look.decisions[row.decision], "ra")
    write(title, (0, TEXT + 8), cost, fitted(cost, SMALL, width), look.faint)
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
    height = round((slots[0][1] - slots[0][0]) * page.shape)
    strip = Image.new("RGB", (width, height + 2 * FRAME), look.card)
    draw = ImageDraw.Draw(strip)
    back = row.decision == REVERTED
    images = [image for _, image in row.given] + [row.before, row.teacher if back else row.after]
    for (left, right), image in zip(slots, images, strict=True):
        if image is None:
            for place, line in enumerate(wrapped(NOT_SHOWN, SMALL, right - left, 4)):
                write(strip, (left, FRAME + place * LINE), line, SMALL, look.faint)
        else:
            paste(strip, image, (left, FRAME, right, FRAME + height))
    left, right = slots[-2 if back else -1]
    draw.rectangle((left - FRAME, 0, right + FRAME - 1, height + 2 * FRAME - 1), None, colour, FRAME - 1)
    middle, centre, size = (slots[-2][1] + slots[-1][0]) / 2, strip.height / 2, -8 if back else 8
    draw.polygon([(middle - size, centre - 10), (middle + size, centre), (middle - size, centre + 10)], colour)
    return strip


def _labels(page: Page, row: Row, marks: Sequence[Mark], width: int) -> Image.Image:
    """Below each picture what it is, with its mark on the bar and its score, and how alike it is to its source."""
    look = page.look
    slots = _slots(page, row, width)
    middles, most = [sum(slot) / 2 for slot in slots], min(slots[-1][1] - slots[-1][0] + ARROW, width / 2) - 6
    labels = Image.new("RGB", (width, LINE * (1 if row.likeness is None else 2)), look.card)
    for middle, (name, _) in zip(middles, row.given, strict=False):
        write(labels, (middle, 0), name, SMALL, look.faint, "ma")
    made = REDONE if row.decision == REDONE else "teacher"  # by whom is not known
    for middle, word, mark in zip(middles[-2:], ("student", made), [*marks, None][:2], strict=True):
        said, room = word, 0
        if mark is not None:
            said, room = f"{word} {number(mark.score)}", 2 * RADIUS + 6
        size = fitted(said, SMALL, most - room)
        half = (length(said, size) + room) / 2
        left = min(max(middle - half, 0), width - 2 * half)
        write(labels, (left + room, 0), said, size, look.ink)
        if mark is not None:
            mark.draw(labels, left + RADIUS + 1, 0.6 * SMALL, look.card)
    for middle, value in zip(middles[-2:], (row.likeness, row.likeness_after), strict=True):
        if value is not None:
            write(labels, (middle, LINE), f"likeness {number(value)}", SMALL, look.ink, "ma")
    return labels
