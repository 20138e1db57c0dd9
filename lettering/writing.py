"""Text on pictures, in whatever script it is.

Latin, Greek and Cyrillic (and what else it has) are drawn in the pack's own font, other letters in the first of the
system's fonts that has them. What no font here has is never drawn as a box: :func:`drawable` tells it beforehand, and
drawing leaves it out.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from .fonts import OWN_FONT, characters, fonts

STRIKES = (109, 136, 160, 128, 96, 64, 48, 40, 32, 20)  # the sizes at which fonts of bitmaps have them

JOINER, TO_PICTURE = "\u200d", "\ufe0f"


class Run(NamedTuple):
    """A part of a text that one font draws. ``direction`` is the whole text's, None where Pillow has but one."""

    text: str
    font: Path
    direction: str | None


class Sized(NamedTuple):
    """A font, and by how much what it draws is to be scaled: a font of bitmaps has a few sizes only."""

    font: object
    scale: float


def length(text: str, size: float) -> float:
    """How many pixels wide ``text`` is on one line."""
    return sum(_length(run, size) for run in _runs(text))


def drawable(text: str) -> bool:
    """Whether the fonts here have all letters of ``text``."""
    return all(_font_for(cluster) for cluster in _clusters(text))


def labels(texts: Sequence[str], names: Sequence[str], where: str) -> tuple[list[str], str | None]:
    """What can be written of texts, and a line about those of which that is not all.

    Such a text ends in "[...]", and the line names what it belongs to. ``where`` is what has the whole texts.
    """
    written, missing = [], []
    for text, name in zip(texts, names, strict=True):
        if not drawable(text):
            missing.append(name)
            rest = " ".join("".join(filter(_font_for, _clusters(text))).split())
            text = f"{rest} [...]" if any(map(str.isalnum, rest)) else "[...]"
        written.append(text)
    if not missing:
        return written, None
    return written, f"no font on this machine can write the whole prompt of {', '.join(missing)}; {where} has it"


def write(picture, at: tuple[float, float], text: str, size: float, colour: str, anchor: str = "la") -> None:
    """Draw ``text`` on one line of the PIL ``picture``, which is RGB.

    anchor: of ``at``, as in Pillow: l, m or r for left, middle or right, then a or m for the line's top or middle.
    """
    from PIL import ImageDraw

    draw = ImageDraw.Draw(picture)
    ascent, descent = _sized(OWN_FONT, size).font.getmetrics()
    x = at[0] - length(text, size) * {"l": 0, "m": 0.5, "r": 1}[anchor[0]]
    baseline = at[1] + {"a": ascent, "m": (ascent - descent) / 2}[anchor[1]]
    for run in _runs(text):
        font, scale = _sized(run.font, size)
        if scale == 1:
            draw.text((x, baseline), run.text, colour, font, anchor="ls", direction=run.direction, embedded_color=True)
        else:
            _paste_bitmaps(picture, (x, baseline), run, size, colour)
        x += _length(run, size)


def shortened(text: str, size: float, width: float, mark: str = "") -> str:
    """``text`` on one line, cut to ``width`` pixels with an ellipsis, which follows anyway if it is ``mark``."""
    text = " ".join(text.split())
    if length(text + mark, size) <= width:
        return text + mark
    clusters = list(_clusters(text[: 8 * int(width)]))  # no letter that is drawn is so narrow

    def cut(count: int) -> str:
        return "".join(clusters[:count]).rstrip() + "..."

    return cut(bisect_right(range(1, len(clusters)), width, key=lambda count: length(cut(count), size)))


def wrapped(text: str, size: float, width: float, lines: int) -> list[str]:
    """``text`` in at most ``lines`` lines of ``width`` pixels, cut with an ellipsis."""
    result = [""]
    for piece, space in _pieces(text):
        longer = result[-1] + space + piece if result[-1] else piece
        if not result[-1] or length(longer, size) <= width:
            result[-1] = longer
        elif len(result) < lines:
            result.append(piece)
        else:
            result[-1] = shortened(result[-1], size, width, mark="...")
            break
    return [shortened(line, size, width) for line in result]


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """What may stand on a line of its own, each with the space before it: words, and single wide letters."""
    for word in text.split():
        piece, space = "", " "
        for cluster in _clusters(word):
            wide = unicodedata.east_asian_width(cluster[0]) in "WF"
            closing = unicodedata.category(cluster[0]) in ("Pe", "Pf", "Po")
            if piece and not closing and (wide or unicodedata.east_asian_width(piece[0]) in "WF"):
                yield piece, space
                piece, space = "", ""
            piece += cluster
        if piece:
            yield piece, space


def _clusters(text: str) -> Iterator[str]:
    """The text letter by letter, each with the marks that belong to it; control characters are left out."""
    cluster = ""
    for letter in unicodedata.normalize("NFC", text):
        category = unicodedata.category(letter)
        if category == "Cc" and not letter.isspace():
            continue
        letter = " " if letter.isspace() else letter
        joins = category in ("Mn", "Mc", "Me", "Cf") or cluster.endswith(JOINER) or _goes_with(cluster, letter)
        if cluster and not (joins and cluster != " "):
            yield cluster
            cluster = ""
        cluster += letter
    if cluster:
        yield cluster


def _goes_with(cluster: str, letter: str) -> bool:
    """Whether a picture takes this one in: a colour of skin, or the second letter of a flag."""
    if "\U0001f3fb" <= letter <= "\U0001f3ff":
        return True
    return len(cluster) == 1 and all("\U0001f1e6" <= each <= "\U0001f1ff" for each in (cluster, letter))


@lru_cache(maxsize=4096)
def _font_for(cluster: str) -> Path | None:
    """The first font that has all that is to be seen of a cluster; None if none has, or Pillow cannot set it."""
    if _right_to_left(cluster) and not _shapes():
        return None
    visible = [
        letter for letter in cluster if unicodedata.category(letter) not in ("Cf", "Cc") and letter != TO_PICTURE
    ]
    return next((font for font in fonts() if all(ord(letter) in characters(font) for letter in visible)), None)


@lru_cache(maxsize=1024)
def _runs(text: str) -> tuple[Run, ...]:
    """The text's runs from left to right: the first letter that has a direction decides where it begins.

    Within a run Pillow orders letters exactly; runs of several fonts keep one order throughout the text.
    """
    kinds = (kind for kind in map(unicodedata.bidirectional, text) if kind in ("L", "R", "AL"))
    direction = "ltr" if next(kinds, "L") == "L" else "rtl"
    runs: list[Run] = []
    for cluster in _clusters(text):
        font = _font_for(cluster)
        if font is None:
            continue
        if runs and runs[-1].font == font:
            runs[-1] = runs[-1]._replace(text=runs[-1].text + cluster)
        else:
            runs.append(Run(cluster, font, direction if _shapes() else None))
    return tuple(runs if direction == "ltr" else reversed(runs))


def _has(font: Path, cluster: str) -> bool:
    return all(ord(letter) in characters(font) for letter in cluster)


def _right_to_left(text: str) -> bool:
    return any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in text)


@cache
def _shapes() -> bool:
    """Whether Pillow sets text from right to left and joins its letters."""
    from PIL import features

    return features.check("raqm")


@lru_cache(maxsize=256)
def _sized(path: Path, size: float) -> Sized:
    from PIL import ImageFont

    try:
        return Sized(ImageFont.truetype(path, size), 1)
    except TypeError:  # Pillow before 10.1 has whole sizes only, and paths as text
        return Sized(ImageFont.truetype(str(path), round(size)), 1)
    except OSError:  # a font of bitmaps has its own sizes only
        for strike in STRIKES:
            try:
                return Sized(ImageFont.truetype(path, strike), size / strike)
            except OSError:
                continue
        raise


def _length(run: Run, size: float) -> float:
    font, scale = _sized(run.font, size)
    return font.getlength(run.text, direction=run.direction) * scale


def _paste_bitmaps(picture, at: tuple[float, float], run: Run, size: float, colour: str) -> None:
    """Draw a run of bitmaps in their own size and scale them down to the line's."""
    from PIL import Image, ImageDraw

    font, scale = _sized(run.font, size)
    ascent, descent = font.getmetrics()
    sheet = Image.new("RGBA", (max(1, round(_length(run, size) / scale)), ascent + descent))
    ImageDraw.Draw(sheet).text(
        (0, ascent), run.text, colour, font, anchor="ls", direction=run.direction, embedded_color=True
    )
    sheet = sheet.resize([max(1, round(side * scale)) for side in sheet.size], Image.Resampling.LANCZOS)
    picture.paste(sheet, (round(at[0]), round(at[1] - ascent * scale)), sheet)
