"""A folder of pictures; captions in text files beside them, or in one table."""

import json
import logging
from pathlib import Path

from ...pipelines.images import NAME_COLUMNS, SUFFIXES
from ...pipelines.prompt_files import PROMPT_COLUMNS, TABLES, find_column, read_table
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
    columns, rows = _rows(table)
    names, texts = (find_column(columns, wanted, table) for wanted in (NAME_COLUMNS, PROMPT_COLUMNS))
    known = {path.relative_to(settings.path).as_posix(): path for path in pictures}
    # A bare name will do where it is the only one.
    by_name: dict[str, list[Path]] = {}
    for path in pictures:
        by_name.setdefault(path.name, []).append(path)
    known = {name: paths[0] for name, paths in by_name.items() if len(paths) == 1} | known
    captions, missing = {}, []
    for row in rows:
        name, text = str(row.get(names) or ""), row.get(texts)
        path = known.get(_below(settings.path, name))
        if path is None:
            missing.append(name)
        elif isinstance(text, str) and text.strip():
            if captions.setdefault(path, text.strip()) != text.strip():
                log.warning("%s has another caption for %s, which is not used: %s", table, name, text.strip())
    if missing:
        log.warning("%s names %d files that are not in %s, e.g. %s", table, len(missing), settings.path, missing[0])
    return captions


def _below(folder: Path, name: str) -> str:
    """A picture's name in a table as a path below the folder: "./a.png", or the folder's own path before it."""
    path = Path(name.strip())
    if path.is_absolute() and path.resolve().is_relative_to(folder.resolve()):
        path = path.resolve().relative_to(folder.resolve())
    return path.as_posix()


def _rows(table: Path) -> tuple[list[str], list[dict]]:
    """(columns, rows) of a table. Raises DataError, or ValueError for a .csv or .tsv that cannot be read."""
    if table.suffix.lower() in TABLES:
        return read_table(table)
    try:
        rows = [json.loads(line) for line in read_text(table).split("\n") if line.strip()]  # texts may hold others
    except ValueError as error:
        raise DataError(f"{table} is not JSON lines: {error}; expected a .csv, .tsv or .jsonl file") from error
    if not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{table} has no rows of a file and a text")
    return list(dict.fromkeys(key for row in rows for key in row)), rows
