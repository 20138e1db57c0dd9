"""Texts on disk: one a line, a list in JSON, or a table with a column of them; one reader for all that take them."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

TEXT_COLUMNS = ("prompt", "caption", "text")
NAME_COLUMNS = ("image", "file", "file_name", "filename", "path")
DELIMITERS = {".csv": ",;\t", ".tsv": "\t,;"}  # the first of them with which the header has what is wanted
JSON = (".json", ".jsonl", ".ndjson")
ZIPPED = b"PK\x03\x04"  # as .xlsx and .ods begin
# Marks that say how a file is encoded; UTF-32's begins as UTF-16's does.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
NEWLINE = re.compile(r"\r\n|\r|\n")  # a text may hold other separators of lines
LINE = re.compile(r"[^\r\n]*")
BEFORE_HEADER = re.compile(r"(?: *[\r\n])*(?:sep=.[\r\n]+)?")  # blank lines, and what Excel may say of the delimiter
JSON_SPACE = re.compile(r"[ \t\r\n]*")
HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")


class Row(NamedTuple):
    """A row of a table: where it stands, for messages, and its text in each wanted column, "" where it has none."""

    place: str
    texts: tuple[str, ...]


def read_prompts(path: Path) -> list[str]:
    """Every prompt of a file that is not blank: its lines, a JSON list of strings, or a table's column of prompts.

    Raises FileNotFoundError, or ValueError that names the line, for what :func:`read_list` and :func:`read_table` do
    not read, and for a file without any prompt.
    """
    prompts = read_list(path)
    if prompts is None:
        prompts = [row.texts[0] for row in read_table(path, TEXT_COLUMNS)]
    prompts = [prompt for prompt in prompts if prompt]
    if not prompts:
        raise ValueError(f"{path} is empty; expected one prompt per line, or a column {TEXT_COLUMNS[0]}")
    return prompts


def read_list(path: Path) -> list[str] | None:
    """The texts of a file that says nothing but them: lines, or a list of strings in JSON. None for a table.

    Raises as :func:`read_prompts`.
    """
    kind = path.suffix.lower()
    if kind not in (*DELIMITERS, *JSON):
        return [line.strip() for line in StringIO(read_text(path), newline=None)]
    if kind in JSON:
        entries = [entry for _, entry in _entries(path, read_text(path))]
        if entries and all(isinstance(entry, str) for entry in entries):
            return [entry.strip() for entry in entries]
    return None


def read_table(path: Path, *wanted: Sequence[str]) -> list[Row]:
    """The rows of a table with something in the columns ``wanted``, each of which may go by several names.

    A ``.csv`` or ``.tsv`` may be delimited by commas, semicolons or tabs, and a cell in quotes may go over several
    lines; quotes that do not enclose a cell are a part of it. Where the last of the ``wanted`` columns is the table's
    last, the rest of the line is its text, whatever it holds. Any other file is JSON: objects, in a list or one a line.
    Raises FileNotFoundError, and ValueError that names the line for cells beyond the header, for a value that is no
    text, for other encodings than UTF-8 and those that have a mark, and for a table without a wanted column.
    """
    text = read_text(path)
    delimiters = DELIMITERS.get(path.suffix.lower())
    rows = _delimited(path, text, wanted, delimiters) if delimiters else _objects(path, text, wanted)
    return [row for row in rows if any(row.texts)]


def read_text(path: Path) -> str:
    """A text file's content. Raises FileNotFoundError, and as :func:`decoded`."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such prompt file")
    return decoded(path.read_bytes(), path)


def decoded(data: bytes, name: object) -> str:
    """Text in UTF-8, or in what its mark says. Raises ValueError for a spreadsheet, and with the line for any other."""
    if data.startswith(ZIPPED):
        raise ValueError(f"{name} is a spreadsheet or another archive, not text; save it as .csv")
    encoding = next((of for mark, of in MARKS.items() if data.startswith(mark)), "utf-8")
    said = "UTF-8" if encoding.startswith("utf-8") else f"the {encoding.upper()} that its mark says"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = _lines(data[: error.start].decode(encoding, "ignore")) + 1
        raise ValueError(f"{name} is not {said}: {error.reason} in line {line}; save it as UTF-8") from error
    if "\0" in text:
        raise ValueError(f"{name} is not {said}: line {_lines(text[: text.index(chr(0))]) + 1} holds a zero")
    return text


def _lines(text: str) -> int:
    """How many lines end in a text."""
    return len(NEWLINE.findall(text))


def _delimited(path: Path, text: str, wanted: Sequence[Sequence[str]], delimiters: str) -> list[Row]:
    tables = [_Delimited(text, delimiter) for delimiter in delimiters]
    table = next((table for table in tables if None not in table.places(wanted)), tables[0])
    _require(path, table.header, wanted)
    places, rows = table.places(wanted), []
    at, line = table.body, 1 + _lines(text[: table.body])
    while at < len(text):
        try:
            cells, end = table.row(at, places[-1])
        except ValueError as error:
            raise ValueError(f"{path} line {line}: {error}") from error
        rows.append(Row(f"line {line}", tuple(cells[place] if place < len(cells) else "" for place in places)))
        at, line = end, line + _lines(text[at:end])
    return rows


class _Delimited:
    """A table's text, cut at one delimiter. The library's reader does not tell a cell's quotes from the text's own."""

    def __init__(self, text: str, delimiter: str):
        self.text, self.delimiter = text, delimiter
        self.plain = re.compile(rf"[^{delimiter}\r\n]*")
        self.enclosed = re.compile(rf' *"([^"]*(?:""[^"]*)*)" *(?=[{delimiter}\r\n]|\Z)')
        names, _, self.body = self._cells(BEFORE_HEADER.match(text).end(), 0)
        self.header = list(names)
        while self.header and not self.header[-1]:
            self.header.pop()
        self.nameless = len(names) - len(self.header)

    def places(self, wanted: Sequence[Sequence[str]]) -> list[int | None]:
        """Which column each of the ``wanted`` is, None where there is none of its names."""
        spelled = [name.lower() for name in self.header]
        return [next((spelled.index(name) for name in names if name in spelled), None) for names in wanted]

    def row(self, at: int, text_column: int) -> tuple[list[str], int]:
        """The cells of the row that begins at ``at``, and where the next one does.

        Raises ValueError for cells that no column of the header has a name for.
        """
        columns = len(self.header)
        cells, rest, end = self._cells(at, columns)
        if rest is None and (text_column < columns - 1 or self.nameless):
            cells[-1] = cells[-1].rstrip(f"{self.delimiter} ")
            rest = cells[-1].partition(self.delimiter)[2]
        if rest and rest.strip(f"{self.delimiter} "):
            raise ValueError(
                f"it has more cells than the header, which names {columns} ({', '.join(self.header)}); put a text that "
                f"holds {self.delimiter!r} into quotes"
            )
        return cells, end

    def _cells(self, at: int, columns: int) -> tuple[list[str], str | None, int]:
        """(cells, what stands after the last where that was in quotes, where the next row begins).

        The last of the ``columns`` takes all that is left of its line, unless quotes enclose it.
        """
        cells = []
        while True:
            last = len(cells) + 1 == columns
            enclosed = self.enclosed.match(self.text, at)
            found = enclosed or (LINE if last else self.plain).match(self.text, at)
            if columns and not enclosed and found[0].lstrip().startswith('"') and '\\"' in found[0]:
                raise ValueError("a backslash before a quote does not mark it as the text's own; double the quote")
            cells.append((found[1].replace('""', '"') if enclosed else found[0]).strip())
            at = found.end()
            if last or not self.text.startswith(self.delimiter, at):
                break
            at += 1
        rest = LINE.match(self.text, at)
        newline = NEWLINE.match(self.text, rest.end())
        return cells, rest[0] if enclosed else None, newline.end() if newline else len(self.text)


def _objects(path: Path, text: str, wanted: Sequence[Sequence[str]]) -> list[Row]:
    entries = _entries(path, text)
    rows = [
        Row(place, tuple(_value(path, place, entry, names, len(wanted)) for names in wanted))
        for place, entry in entries
    ]
    if not any(isinstance(entry, str) for _, entry in entries):
        _require(path, list(dict.fromkeys(key for _, entry in entries for key in entry)), wanted)
    return rows


def _entries(path: Path, text: str) -> list[tuple[str, Any]]:
    """(where it stands, what it is) of the values that follow one another, or of those in the one list."""
    decoder, entries, line, end = json.JSONDecoder(), [], 1, 0
    while (at := JSON_SPACE.match(text, end).end()) < len(text):
        line += _lines(text[end:at])
        try:
            entry, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} line {line} is not JSON: {error}") from error
        entries.append((f"line {line}", entry))
        line += _lines(text[at:end])
    if len(entries) == 1 and isinstance(entries[0][1], list):
        entries = [(f"entry {number}", entry) for number, entry in enumerate(entries[0][1], start=1)]
    return entries


def _value(path: Path, place: str, entry: Any, names: Sequence[str], columns: int) -> str:
    """An entry's text under the first of the ``names`` that it has; a string is the text of a list of them."""
    key = names[0]
    if isinstance(entry, str) and columns == 1:
        value = entry
    elif isinstance(entry, dict):
        spelled = {name.strip().lower(): value for name, value in reversed(entry.items()) if value is not None}
        key = next((name for name in names if name in spelled), key)
        value = spelled.get(key, "")
    else:
        raise ValueError(f"{path} {place} is {_short(entry)}; expected an object with {key}")
    if not isinstance(value, str):
        raise ValueError(f"{path} {place}: its {key} is {_short(value)}; expected a text")
    if HALF_A_CHARACTER.search(value):
        raise ValueError(f"{path} {place}: its {key} holds half a character ({_short(value)}), which is no text")
    return value.strip()


def _short(value: Any) -> str:
    said = json.dumps(value)
    return said if len(said) <= 40 else f"{said[:40]}..."


def _require(path: Path, has: Sequence[str], wanted: Sequence[Sequence[str]]) -> None:
    """Raises ValueError unless there is a column for each of the ``wanted``."""
    spelled = {name.strip().lower() for name in has}
    for names in wanted:
        if not spelled & set(names):
            it_has = f"it has {', '.join(has)}" if has else "it is empty"
            raise ValueError(f"{path} has no column {names[0]} (or {', '.join(names[1:])}); {it_has}")
