"""Files of prompts: one for each line, or a table with a column of them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

TABLES = {".csv": ",", ".tsv": "\t"}
PROMPT_COLUMNS = ("prompt", "caption", "text")


def read_prompts(path: Path) -> list[str]:
    """Every prompt of a file that is not blank: its lines, or the column ``prompt`` of a ``.csv`` or ``.tsv``.

    Raises FileNotFoundError, or ValueError for a file that is not text, has no such column or no prompt.
    """
    if path.suffix.lower() in TABLES:
        columns, rows = read_table(path)
        prompt = find_column(columns, PROMPT_COLUMNS, path)
        prompts = [row[prompt] or "" for row in rows]
    else:
        prompts = read_lines(path)
    prompts = [prompt.strip() for prompt in prompts if prompt.strip()]
    if not prompts:
        raise ValueError(f"{path} is empty; expected one prompt per line, or a column {PROMPT_COLUMNS[0]}")
    return prompts


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, however they end. Raises as :func:`read_prompts`."""
    return [line.strip() for line in StringIO(_text(path), newline=None)]


def read_table(path: Path) -> tuple[list[str], list[dict[str, str | None]]]:
    """(columns, rows) of a ``.csv`` or ``.tsv``; a cell in quotes may go over several lines, a short row ends in None.

    Raises FileNotFoundError and ValueError.
    """
    reader = csv.DictReader(StringIO(_text(path), newline=""), delimiter=TABLES[path.suffix.lower()], strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise ValueError(f"{path} cannot be read as a table after line {reader.line_num}: {error}") from error
    return list(reader.fieldnames or ()), rows


def find_column(columns: Sequence[str], wanted: Sequence[str], path: Path) -> str:
    """The first of the ``wanted`` names that the table has, as it spells it. Raises ValueError that lists both."""
    spelled = {name.strip().lower(): name for name in reversed(columns)}
    for name in wanted:
        if name in spelled:
            return spelled[name]
    has = f"it has {', '.join(columns)}" if columns else "it is empty"
    raise ValueError(f"{path} has no column {wanted[0]} (or {', '.join(wanted[1:])}); {has}")


def _text(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such prompt file")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8 ({error.reason} at byte {error.start})") from error
