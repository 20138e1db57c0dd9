"""The receipt as a picture: a headline, the redone images first and large, those put back, the kept ones small."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from PIL import Image

from ..lettering import drawable, labels
from ..samplers.decisions import KEPT, REVERTED
from .bars import Axis, Distribution, scale_of
from .letters import fitted
from .looks import LIGHT, Look
from .page import CARD, GAP, HEADLINE, MARGIN, MOST, NARROWEST, TEXT, USUAL, Detail, Page, beside, lines, stacked
from .pairs import arranged, legend, pairs
from .receipt import Row
from .tiles import Kept, all_kept

TALLEST, FLATTEST = 1.5, 0.5  # a picture's place, height by width
MOST_PAIRS, MOST_TILES, MOST_NAMES = 36, 120, 5
# What goes first where there is little room is what costs the least to look up.
DETAILS = (
    Detail(),
    Detail(prompt=3, kept=1),
    Detail(prompt=2, kept=1, words=False),
    Detail(prompt=2, kept=0, words=False),
)
FEW = 4  # images that have room on a narrow page
NODE, NODE_OF_FEW = 1.1, 1.4  # height by width of the nodes that show a page, a narrow one


def report_picture(
    rows: Sequence[Row],
    totals: Sequence[str],
    distribution: Distribution | None = None,
    look: Look = LIGHT,
    where: str = "the metadata",
    in_node: bool = False,
) -> Image.Image:
    """A picture, RGB, of all rows; the first of the totals is its headline, the others stand below.

    distribution: the calibration's percentiles, as ``Threshold.distribution`` has them; without it the bars go over the
    range of these scores. where: what has the whole prompts, for those that no font can write, and those of many.
    in_node: it is shown in a graph's node; what needs a page higher than those are is written in fewer words, as far as
    that helps.
    """

    @cache
    def drawn(at: int) -> Image.Image:
        return _page(rows, totals, distribution, look, where, DETAILS[at])

    def fits(at: int) -> bool:
        narrow = drawn(at).width <= NARROWEST + 2 * MARGIN
        return drawn(at).height <= (NODE_OF_FEW if narrow else NODE) * drawn(at).width

    last = len(DETAILS) - 1
    return drawn(next((at for at in range(last) if not in_node or fits(at)), last))


def _page(
    rows: Sequence[Row],
    totals: Sequence[str],
    distribution: Distribution | None,
    look: Look,
    where: str,
    detail: Detail,
) -> Image.Image:
    names = [f"image {count}" for count in range(1, len(rows) + 1)]
    changed = [place for place, row in enumerate(rows) if row.decision != KEPT]
    large = sorted(changed, key=lambda place: rows[place].decision == REVERTED)[:MOST_PAIRS]
    small = [place for place, row in enumerate(rows) if row.decision == KEPT][:MOST_TILES]
    few = len(rows) <= FEW or bool(rows[0].given)
    columns, card = arranged(len(large), bool(rows[0].given), few)
    wide = columns * (card + GAP) - GAP  # of a strip of cards
    width = max(wide, NARROWEST if few else USUAL)
    text = round(TEXT * min(max(width / USUAL, 1), MOST))  # a wider page is shown smaller
    page = Page(rows, names, look, _axis(rows, distribution, look, text), width, _shape(rows), text, detail)

    def said(texts: Sequence[str], size: int, colour: str) -> Image.Image | None:
        return lines(texts, size, page.width, colour, look.page)

    first: dict[str, int] = {}  # the image that a prompt is written at
    for place in [*large, *small]:
        if rows[place].prompt:
            first.setdefault(rows[place].prompt, place)
    texts, note = labels(list(first), [names[place] for place in first.values()], where)
    prompts = dict(zip(first, texts, strict=True))
    parts = [said(totals[:1], _headline_size(totals, page), look.ink)]
    if len({row.prompt for row in rows}) == 1:
        parts.append(said(texts, text, look.faint))
        prompts = {}
    elsewhere = []  # what is left out
    if large and not detail.words:
        parts.append(legend(page, large))
        elsewhere.append("what each cost")
    redone = list(pairs(page, large, columns, card, prompts)) if large else []
    if small:
        having: dict[str, list[str]] = {}  # the images of each prompt that no pair has
        for place in small:
            prompt = rows[place].prompt
            if prompt in prompts and first[prompt] in small:
                having.setdefault(prompt, []).append(names[place])
        if having and not detail.kept:
            elsewhere.append("the prompts of the kept")
            having = {}
        written = [f"{_together(of)}: {prompts[prompt]}" for prompt, of in having.items()]
        told = f"kept: {len(rows) - len(changed)}", written
        if large:
            redone = _with_kept(page, redone, small, *told)
        else:
            parts += all_kept(page, small, *told)
    parts += redone
    notes = [*totals[1:], *filter(None, [note])]
    if elsewhere:
        notes.append(f"{where} has {' and '.join(elsewhere)}")
    if left := len(rows) - len(large) - len(small):
        notes.append(f"{left} more images are not drawn; {where} has them")
    if not all(map(drawable, totals)):
        notes.append(f"no font on this machine can write these lines whole; {where} has them")
    parts.append(said(notes, text, look.faint))
    return stacked(parts, look.page, MARGIN, GAP)


def _with_kept(
    page: Page, redone: Sequence[Image.Image], places: Sequence[int], *told: str | Sequence[str]
) -> list[Image.Image]:
    """The pairs' strips and the kept below them, or beside a single strip where that is lower."""
    below = Kept(page, places, *told, page.width)
    room = page.width - redone[0].width - GAP
    if len(redone) == 1 and room >= CARD:
        side = Kept(page, places, *told, room)
        if max(side.height, redone[0].height) <= redone[0].height + GAP + below.height:
            return [beside([*redone, side.drawn()], page.look.page, GAP)]
    return [*redone, below.drawn()]


def _together(names: Sequence[str]) -> str:
    """Names in one: "image 2, 5", the first of many."""
    told = ", ".join([names[0], *(name.removeprefix("image ") for name in names[1:MOST_NAMES])])
    return told if len(names) <= MOST_NAMES else f"{told} and {len(names) - MOST_NAMES} more"


def _headline_size(totals: Sequence[str], page: Page) -> int:
    """So large that the headline is one line, but not smaller than other text."""
    return max(page.text, int(fitted("".join(totals[:1]), HEADLINE * page.text / TEXT, page.width)))


def _axis(rows: Sequence[Row], distribution: Distribution | None, look: Look, text: int) -> Axis:
    scores = [score for row in rows for score in (row.score, row.score_after) if score is not None]
    return Axis(scale_of(scores, [row.threshold for row in rows], distribution), distribution, scores, look, text)


def _shape(rows: Sequence[Row]) -> float:
    """Height by width of the place for each picture, which has room for the tallest of them."""
    tallest = max(image.shape[0] / image.shape[1] for row in rows for image in (row.before, row.after))
    return min(max(tallest, FLATTEST), TALLEST)
