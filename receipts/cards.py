"""The receipt as a picture: a headline, the redone images first and large, those put back, the kept ones small."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image

from ..lettering import drawable, labels
from ..samplers.decisions import KEPT, REVERTED
from .bars import Axis, Distribution, scale_of
from .looks import LIGHT, Look
from .page import GAP, HEADLINE, MARGIN, NARROWEST, SMALL, TEXT, Page, fitted, lines, stacked
from .pairs import arranged, pairs
from .receipt import Row
from .tiles import tiles

TALLEST, FLATTEST = 1.5, 0.5  # a picture's place, height by width
MOST_PAIRS, MOST_TILES, MOST_NAMES = 36, 120, 5


def report_picture(
    rows: Sequence[Row],
    totals: Sequence[str],
    distribution: Distribution | None = None,
    look: Look = LIGHT,
    names: Sequence[str] | None = None,
    where: str = "the metadata",
) -> Image.Image:
    """A picture, RGB, of all rows; the first of the totals is its headline, the others stand below.

    distribution: the calibration's percentiles, as ``Threshold.distribution`` has them; without it the bars go over the
    range of these scores. names: of the images, "image 1" and on without it. where: what has the whole prompts, for
    those that no font can write.
    """
    names = names or [f"image {count}" for count in range(1, len(rows) + 1)]
    changed = [place for place, row in enumerate(rows) if row.decision != KEPT]
    large = sorted(changed, key=lambda place: rows[place].decision == REVERTED)[:MOST_PAIRS]
    small = [place for place, row in enumerate(rows) if row.decision == KEPT][:MOST_TILES]
    columns, card = arranged(len(large), bool(rows[0].given))
    width = max(columns * (card + GAP) - GAP, NARROWEST)
    page = Page(rows, names, look, _axis(rows, distribution, look), width, _shape(rows))
    unit = math.sqrt(width / NARROWEST)  # a wide page is shown smaller, and read at its full size, too

    def said(texts: Sequence[str], size: float, colour: str, most: int = 3) -> Image.Image | None:
        return lines(texts, round(size * unit), page.width, colour, look.page, most)

    first: dict[str, int] = {}  # the image that a prompt is written at
    for place in [*large, *small]:
        if rows[place].prompt:
            first.setdefault(rows[place].prompt, place)
    texts, note = labels(list(first), [names[place] for place in first.values()], where)
    prompts = dict(zip(first, texts, strict=True))
    parts = [said(totals[:1], _headline_size(totals), look.ink)]
    if len({row.prompt for row in rows}) == 1:
        parts.append(said(texts, TEXT, look.faint))
        prompts = {}
    parts += pairs(page, large, prompts)
    if small:
        parts.append(said([f"kept: {len(rows) - len(changed)}"], TEXT, look.decisions[KEPT]))
        parts += tiles(page, small, beside_pairs=bool(large))
    with_kept = [prompt for prompt, place in first.items() if place in small and prompt in prompts]
    having = {prompt: [names[place] for place in small if rows[place].prompt == prompt] for prompt in with_kept}
    parts.append(said([f"{_together(of)}: {prompts[prompt]}" for prompt, of in having.items()], SMALL, look.ink, 1))
    notes = [*totals[1:], *filter(None, [note])]
    if left := len(rows) - len(large) - len(small):
        notes.append(f"{left} more images are not drawn; {where} has them")
    if not all(map(drawable, totals)):
        notes.append(f"no font on this machine can write these lines whole; {where} has them")
    parts.append(said(notes, SMALL, look.faint))
    return stacked(parts, look.page, MARGIN, GAP)


def _together(names: Sequence[str]) -> str:
    """Names in one: "image 2, 5", the first of many."""
    told = ", ".join([names[0], *(name.removeprefix("image ") for name in names[1:MOST_NAMES])])
    return told if len(names) <= MOST_NAMES else f"{told} and {len(names) - MOST_NAMES} more"


def _headline_size(totals: Sequence[str]) -> float:
    """So large that the headline is one line on a page two cards wide, within limits."""
    return max(0.75 * HEADLINE, fitted("".join(totals[:1]), HEADLINE, 0.98 * NARROWEST))


def _axis(rows: Sequence[Row], distribution: Distribution | None, look: Look) -> Axis:
    scores = [score for row in rows for score in (row.score, row.score_after) if score is not None]
    return Axis(scale_of(scores, [row.threshold for row in rows], distribution), distribution, scores, look)


def _shape(rows: Sequence[Row]) -> float:
    """Height by width of the place for each picture, which has room for the tallest of them."""
    tallest = max(image.shape[0] / image.shape[1] for row in rows for image in (row.before, row.after))
    return min(max(tallest, FLATTEST), TALLEST)
