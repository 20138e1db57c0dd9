"""Tables of pictures and prompts as people write them, generated from a seed; each with its texts or its error."""

from __future__ import annotations

import json
import random
from pathlib import Path

from PIL import Image

from .outcomes import Case, Refused, Right

PLAIN = ("a castle", "two cats on a sofa", "the sea at night", "un café à Paris", "夜の街", "a 50 mm lens", "fox's den")
WITH_COMMAS = ("a red barn, snow, sunset", "1girl, solo, red hair", "a boat, calm sea", ", a lamp", "snow,")
WITH_QUOTES = ('a sign that says "open"', 'a 12" record, worn', '"quoted" from the start')
NAMES = ("a.png", "b.png", "c.png")
DELIMITERS = {".csv": ",", ".tsv": "\t"}


def table_cases(seed: int, count: int) -> list[Case]:
    """So many tables for the pictures ``NAMES`` in the folder ``pictures``; a right outcome is their three texts."""
    rng = random.Random(seed)
    kinds = (
        _delimited,
        _delimited,
        _delimited,
        _loose,
        _too_many_cells,
        _json_lines,
        _json_array,
        _json_strings,
        _lines,
    )
    return [kinds[k % len(kinds)](rng, k) for k in range(count)]


def _case(name: str, file: str, content: bytes, outcome) -> Case:
    def make(folder: Path) -> None:
        pictures = folder / "pictures"
        pictures.mkdir()
        for number, picture in enumerate(NAMES):
            Image.new("RGB", (8, 8), (40 * number + 20, 200, 255 - 60 * number)).save(pictures / picture)
        (folder / file).write_bytes(content)

    return Case(name, make, outcome)


def _texts(rng: random.Random, *pools) -> list[str]:
    return [rng.choice(rng.choice(pools)) for _ in NAMES]


def _named(rng: random.Random, name: str) -> str:
    """A picture as tables name it: by its name, or by a path from the table's folder, either way of slashes."""
    return rng.choice((name, f"pictures/{name}", f"./pictures/{name}", f"pictures\\{name}"))


def _encoded(rng: random.Random, text: str) -> tuple[bytes, str]:
    encoding = rng.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16"))
    return text.encode(encoding), encoding


def _delimited(rng: random.Random, number: int) -> Case:
    """Proper tables: quoted where that is needed, columns in any order, spelled in any way, any line ends."""
    suffix = rng.choice((".csv", ".csv", ".tsv"))
    delimiter = rng.choice((",", ";")) if suffix == ".csv" else "\t"
    texts = _texts(rng, PLAIN, WITH_COMMAS, WITH_QUOTES)
    always = rng.random() < 0.3

    def cell(text: str) -> str:
        if always or any(mark in text for mark in (delimiter, '"', "\n")):
            return '"' + text.replace('"', '""') + '"'
        return text

    columns = [rng.choice(("image", "file", "file_name", "Path")), rng.choice(("prompt", "Caption", "text"))]
    order = rng.choice(((0, 1), (1, 0), (2, 0, 1), (0, 1, 2)))
    rows = [
        [*columns, "seed"],
        *([_named(rng, name), text, str(rng.randrange(99))] for name, text in zip(NAMES, texts, strict=True)),
    ]
    end = rng.choice(("\n", "\r\n"))
    lines = [delimiter.join(cell(row[k]) for k in order) for row in rows]
    content, encoding = _encoded(rng, end.join(lines) + rng.choice(("", end, end * 3)))
    # A blank before or after a text is no part of it.
    right = Right([text.strip() for text in texts])
    return _case(f"table {number}, {delimiter!r} in {encoding}, columns {order}", f"prompts{suffix}", content, right)


def _loose(rng: random.Random, number: int) -> Case:
    """Commas in the last column without quotes, as most people write captions: the rest of the line is the text."""
    texts = _texts(rng, WITH_COMMAS)
    lines = ["image,prompt", *(f"{_named(rng, name)},{text}" for name, text in zip(NAMES, texts, strict=True))]
    content, encoding = _encoded(rng, "\n".join(lines) + "\n")
    return _case(
        f"table {number}, bare commas in {encoding}", "prompts.csv", content, Right([t.strip() for t in texts])
    )


def _too_many_cells(rng: random.Random, number: int) -> Case:
    """Where the text stands before another column, nobody knows where it ends: the line is named."""
    texts = ["a castle", "a boat", "a lamp"]
    wrong = rng.randrange(len(NAMES))
    texts[wrong] = rng.choice(("a red barn, snow, sunset", "1girl, solo, red hair"))
    lines = ["prompt,image", *(f"{text},{name}" for name, text in zip(NAMES, texts, strict=True))]
    says = ("prompts.csv", f"line {wrong + 2}")
    return _case(f"table {number}, too many cells", "prompts.csv", "\n".join(lines).encode(), Refused(says))


def _json_lines(rng: random.Random, number: int) -> Case:
    texts = _texts(rng, PLAIN, WITH_COMMAS, WITH_QUOTES)
    image, text = rng.choice(("image", "file_name")), rng.choice(("prompt", "caption", "text"))
    rows = [
        json.dumps({image: _named(rng, n), text: t}, ensure_ascii=rng.random() < 0.5)
        for n, t in zip(NAMES, texts, strict=True)
    ]
    content, encoding = _encoded(rng, "\n".join(rows) + "\n")
    right = Right([t.strip() for t in texts])
    return _case(f"table {number}, JSON lines in {encoding}", "prompts.jsonl", content, right)


def _json_array(rng: random.Random, number: int) -> Case:
    texts = _texts(rng, PLAIN, WITH_COMMAS, WITH_QUOTES)
    key = rng.choice(("prompt", "caption", "text"))
    content, encoding = _encoded(
        rng, json.dumps([{"image": _named(rng, n), key: t} for n, t in zip(NAMES, texts, strict=True)])
    )
    right = Right([t.strip() for t in texts])
    return _case(f"table {number}, a JSON array in {encoding}", "prompts.json", content, right)


def _json_strings(rng: random.Random, number: int) -> Case:
    """A list of texts, one for each picture in their order; a text too few names both counts."""
    texts = _texts(rng, PLAIN, WITH_COMMAS)
    if rng.random() < 0.3:
        content = json.dumps(texts[:2]).encode()
        return _case(f"table {number}, too few texts", "prompts.json", content, Refused(("prompts.json", "2", "3")))
    right = Right([t.strip() for t in texts])
    return _case(f"table {number}, JSON texts", "prompts.json", json.dumps(texts).encode(), right)


def _lines(rng: random.Random, number: int) -> Case:
    """A text file: one line for each picture, in natural order."""
    texts = _texts(rng, PLAIN, WITH_COMMAS, WITH_QUOTES)
    end = rng.choice(("\n", "\r\n"))
    content, encoding = _encoded(rng, end.join(texts) + rng.choice(("", end)))
    right = Right([t.strip() for t in texts])
    return _case(f"table {number}, lines in {encoding}", "prompts.txt", content, right)
