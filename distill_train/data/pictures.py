"""A folder of pictures; captions in text files beside them, or in one table."""

import logging
import re
from pathlib import Path

from ...files.hashes import stamp
from ...files.tables import read_text
from ...pipelines.image_texts import named_rows
from ...pipelines.images import find_images
from .encode import DataError, Decoded, Encoder, Item, required
from .settings import FolderSettings

log = logging.getLogger(__name__)
NUMBERED = re.compile(r"(\d+)_")  # kohya's names of folders: how often their pictures count
MOST_REPEATS = 999  # above it a number is a year or a date


def folder_items(settings: FolderSettings, encoder: Encoder) -> list[Item]:
    """Every picture with a caption, encoded, as often as its folder says. Raises FileNotFoundError or ValueError."""
    if not settings.path.is_dir():
        raise FileNotFoundError(f"data.path {settings.path}: no such folder")
    pictures, left_out = find_images([settings.path])
    for path, reason in left_out.items():
        log.warning("%s is skipped: %s", path, reason)
    repeats = _repeats(settings, pictures)
    captions = _from_files(pictures) if settings.captions is None else _from_table(settings, pictures)
    beside, found = encoder.beside, []
    for path in pictures:
        if path not in captions:
            log.warning("%s is skipped: it has no caption", path)
        elif beside and beside.of(path.relative_to(settings.path)) is None:
            log.warning("%s is skipped: there is no condition for it in %s", path, beside.folder)
        else:
            found.append(path)

    # What each picture became when it was last read: {path below the folder: [size, time, latents, height, width]}.
    # With a condition its key comes last, and where it is made of a second file, that one's size and time after these.
    table = encoder.cache.key(settings.path.resolve(), encoder.sizes, *encoder.plan)
    known = encoder.cache.read_note("pictures", table) or {}

    def encode(mine: list[Path], done) -> list[tuple[Item | None, list[int] | None]]:
        def read(path: Path) -> tuple[Decoded | None, list[int] | None]:
            name = path.relative_to(settings.path)
            second = beside.of(name) if beside else None
            return _decoded(path, captions[path], encoder, known.get(name.as_posix()), second)

        made = []
        with encoder.encoding() as encode_later:
            for decoded, mark in encoder.made_ahead(read, mine):
                encode_later(decoded)
                made.append((decoded and decoded.item, mark))
                done(len(made))
        return made

    work = encoder.first(found, [captions[path] for path in found])
    made = encoder.share(work, "pictures", encode)
    for path, (item, mark) in zip(work, made, strict=True):
        name = path.relative_to(settings.path).as_posix()
        known.pop(name, None)
        if item and mark:
            known[name] = [*mark, item.latents, item.height, item.width, *[item.extras] * bool(item.extras)]
    if encoder.processes.is_main:
        encoder.cache.write_note("pictures", table, known)
    counts = [repeats.get(path.relative_to(settings.path).parts[0], 1) for path in work]
    return required([item for (item, _), count in zip(made, counts, strict=True) for _ in range(count)], settings.path)


def _repeats(settings: FolderSettings, pictures: list[Path]) -> dict[str, int]:
    """How often the pictures in each folder count, by the number that its name begins with: 10 times in "10_fox".

    Raises DataError for a number that can hardly be meant.
    """
    deeper = {part for path in pictures for part in path.relative_to(settings.path).parts[1:-1] if NUMBERED.match(part)}
    if settings.repeats and deeper:
        log.warning(
            "numbers before the names of folders count directly below data.path alone; the pictures in %s count once",
            ", ".join(sorted(deeper)),
        )
    found = {}
    for folder in dict.fromkeys(path.relative_to(settings.path).parts[0] for path in pictures):
        number = NUMBERED.match(folder)
        if settings.repeats and number and (settings.path / folder).is_dir():
            found[folder] = int(number[1])
            if found[folder] > MOST_REPEATS:
                raise DataError(
                    f"pictures in {settings.path / folder} would count {found[folder]} times each by its name; rename "
                    "it, or set data.repeats=false to count each picture once"
                )
            if found[folder] != 1:
                log.warning("pictures in %s count %d times each; data.repeats=false: once", folder, found[folder])
    return found


def _decoded(
    path: Path, caption: str, encoder: Encoder, known: list | None, beside: Path | None
) -> tuple[Decoded | None, list[int] | None]:
    """The sample of a picture and the stamp of its files; where they are still as ``known`` they are not read."""
    files = [path] if beside is None else [path, beside]
    try:
        stamps = [stamp(file) for file in files]
        mark = None if None in stamps else [part for found in stamps for part in found]
        if known and mark and known[: len(mark)] == mark:
            latents, height, width, *extras = known[len(mark) :]
            item = Item(str(path), latents, caption, height, width, *extras)
            if encoder.has(item):
                return Decoded(item), mark
        data = [file.read_bytes() for file in files]
    except OSError as error:
        log.warning("%s is skipped: %s", path, error)
        return None, None
    return encoder.decoded(str(path), data[0], caption, *data[1:]), mark


def _from_files(pictures: list[Path]) -> dict[Path, str]:
    captions = {}
    for path in pictures:
        said = {}
        for text in (path.with_suffix(".txt"), path.with_suffix(".caption")):
            try:
                if text.is_file() and (words := read_text(text).strip()):
                    said[text] = words
            except (OSError, ValueError) as error:
                log.warning("%s", error)
        if len(set(said.values())) > 1:
            log.warning("%s is not used: %s says something else", *reversed(said))
        if said:
            captions[path] = next(iter(said.values()))
    return captions


def _from_table(settings: FolderSettings, pictures: list[Path]) -> dict[Path, str]:
    table = settings.captions
    if not table.is_file():
        raise FileNotFoundError(f"data.captions {table}: no such file")
    captions, missing = {}, []
    for row, path in named_rows(pictures, table, [settings.path]):
        name, text = row.texts
        if path is None:
            missing.append(name)
        elif text and captions.setdefault(path, text) != text:
            log.warning("%s has another caption for %s, which is not used: %s", table, name, text)
    if missing:
        log.warning("%s names %d files that are not in %s, e.g. %s", table, len(missing), settings.path, missing[0])
    return captions
