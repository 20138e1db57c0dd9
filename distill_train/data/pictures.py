"""A folder of pictures; captions in text files beside them, or in one table."""

import csv
import io
import json
import logging
from pathlib import Path

from ...pipelines.images import NAME_COLUMNS, PROMPT_COLUMNS, SUFFIXES
from .encode import DataError, Encoder, Item, read_text, required
from .known import stamp
from .settings import FolderSettings

log = logging.getLogger(__name__)


def folder_items(settings: FolderSettings, encoder: Encoder) -> list[Item]:
    """Every picture with a caption, encoded. Raises FileNotFoundError or DataError."""
    if not settings.path.is_dir():
        raise FileNotFoundError(f"data.path {settings.path}: no such folder")
    pictures = sorted(p for p in settings.path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not pictures:
        raise DataError(f"{settings.path} has no pictures; expected files with {', '.join(sorted(SUFFIXES))}")
    captions = _from_files(pictures) if settings.captions is None else _from_table(settings, pictures)
    found = [path for path in pictures if path in captions]
    for path in pictures:
        if path not in captions:
            log.warning("%s is skipped: it has no caption", path)

    # What each picture became when it was last read: {path below the folder: [size, time, latents, height, width]}.
    table = encoder.cache.key(settings.path.resolve(), encoder.sizes)
    known = encoder.cache.read_note("pictures", table) or {}

    def encode(mine: list[Path], done) -> list[tuple[Item | None, list[int] | None]]:
        made = []
        for path in mine:
            made.append(_item(path, captions[path], encoder, known.get(path.relative_to(settings.path).as_posix())))
            done(len(made))
        return made

    work = encoder.first(found, [captions[path] for path in found])
    made = encoder.share(work, "pictures", encode)
    for path, (item, mark) in zip(work, made, strict=True):
        name = path.relative_to(settings.path).as_posix()
        known.pop(name, None)
        if item and mark:
            known[name] = [*mark, item.latents, item.height, item.width]
    if encoder.processes.is_main:
        encoder.cache.write_note("pictures", table, known)
    return required([item for item, _ in made], settings.path)


def _item(path: Path, caption: str, encoder: Encoder, known: list | None) -> tuple[Item | None, list[int] | None]:
    """The sample of a picture and its stamp; a file that is still as ``known`` is not read."""
    try:
        mark = stamp(path)
        if known and known[:2] == mark and encoder.cache.has("latents", known[2]):
            return Item(str(path), known[2], caption, *known[3:]), mark
        data = path.read_bytes()
    except OSError as error:
        log.warning("%s is skipped: %s", path, error)
        return None, None
    return encoder.picture(str(path), data, caption), mark


def _from_files(pictures: list[Path]) -> dict[Path, str]:
    captions = {}
    for path in pictures:
        text = path.with_suffix(".txt")
        try:
            if text.is_file() and (said := read_text(text).strip()):
                captions[path] = said
        except (OSError, DataError) as error:
            log.warning("%s", error)
    return captions


def _from_table(settings: FolderSettings, pictures: list[Path]) -> dict[Path, str]:
    table = settings.captions
    if not table.is_file():
        raise FileNotFoundError(f"data.captions {table}: no such file")
    rows = _rows(table)
    columns = {str(name).strip().lower(): name for name in rows[0]}
    names, texts = (next((columns[c] for c in names if c in columns), None) for names in (NAME_COLUMNS, PROMPT_COLUMNS))
    if names is None or texts is None:
        raise DataError(
            f"{table} has the columns {', '.join(map(str, rows[0]))}; expected one of {', '.join(NAME_COLUMNS)} and "
            f"one of {', '.join(PROMPT_COLUMNS)}"
        )
    known = {path.relative_to(settings.path).as_posix(): path for path in pictures}
    # A bare name will do where it is the only one.
    by_name: dict[str, list[Path]] = {}
    for path in pictures:
        by_name.setdefault(path.name, []).append(path)
    known = {name: paths[0] for name, paths in by_name.items() if len(paths) == 1} | known
    pairs = [(str(row.get(names)), row.get(texts)) for row in rows]
    captions = {known[name]: text.strip() for name, text in pairs if isinstance(text, str) and name in known}
    captions = {path: text for path, text in captions.items() if text}
    missing = [name for name, _ in pairs if name not in known]
    if missing:
        log.warning("%s names %d files that are not in %s, e.g. %s", table, len(missing), settings.path, missing[0])
    return captions


def _rows(table: Path) -> list[dict[str, str]]:
    file = io.StringIO(read_text(table), newline="")
    if table.suffix.lower() in (".csv", ".tsv"):
        rows = list(csv.DictReader(file, delimiter="\t" if table.suffix.lower() == ".tsv" else ","))
    else:
        try:
            rows = [json.loads(line) for line in file if line.strip()]
        except ValueError as error:
            raise DataError(f"{table} is not JSON lines: {error}; expected a .csv, .tsv or .jsonl file") from error
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{table} has no rows of a file and a text")
    return rows
