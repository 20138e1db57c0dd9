"""The texts that belong to pictures: prompts to score them for, captions to train on."""

from __future__ import annotations

import functools
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..files.tables import NAME_COLUMNS, TEXT_COLUMNS, Row, read_list, read_table
from .images import natural


def prompts_for(images: Sequence[Path], prompt: str | None, file: Path | None, paths: Sequence[Path] = ()) -> list[str]:
    """One prompt for each image: ``prompt`` for all, or from ``file``.

    A text file has one line per image, a ``.json`` or ``.jsonl`` maybe one string, in the images' order; a table names
    each image, as :func:`named_rows` reads it, ``paths`` being what is scored. Raises FileNotFoundError, and
    ValueError that names the count or the image.
    """
    if (prompt is None) == (file is None):
        raise ValueError("give either --prompt TEXT for all images or --prompts FILE")
    if prompt is not None:
        return [prompt] * len(images)
    lines = read_list(file)
    if lines is None:
        return _from_table(images, file, paths)
    while lines and not lines[-1]:
        lines.pop()
    if len(lines) != len(images):
        raise ValueError(
            f"{file} has {len(lines)} lines for {len(images)} images; expected one line per image, or a .csv with the "
            f"columns {NAME_COLUMNS[0]} and {TEXT_COLUMNS[0]}"
        )
    _require_counting_up(file, [path for path in paths if not path.is_dir()])
    return lines


def _require_counting_up(file: Path, named: Sequence[Path]) -> None:
    """Raises ValueError for numbered pictures in the order 1, 10, 2, in which a shell puts them for ``*.png``."""
    series: dict[str, list[Path]] = {}
    for path in named:
        series.setdefault(re.sub(r"\d+", "#", str(path)), []).append(path)
    for several in series.values():
        for one, other in zip(several, sorted(several, key=natural), strict=True):
            if one != other:
                raise ValueError(
                    f"{file} has a line per image, but {one} comes where its number does not belong ({other} would); "
                    "name the pictures' folder instead, in which 2 comes before 10, or give a .csv that names each"
                )


def _from_table(images: Sequence[Path], file: Path, paths: Sequence[Path]) -> list[str]:
    found: dict[Path, Row] = {}
    for row, image in named_rows(images, file, paths):
        if image in found:
            named = [repr(row.texts[0]) for row in (found[image], row)]
            raise ValueError(f"{file} {row.place}: two rows for one image: {' and '.join(named)}; leave one out")
        if image is not None:
            found[image] = row
    for image in images:
        if image not in found:
            raise ValueError(
                f"{file} has no row for {image}; its column {NAME_COLUMNS[0]} (or {', '.join(NAME_COLUMNS[1:])}) names "
                "images by name, or by path from the table's folder, from what is scored or from the working directory"
            )
    return [found[image].texts[1] for image in images]


def named_rows(images: Sequence[Path], file: Path, paths: Sequence[Path]) -> Iterator[tuple[Row, Path | None]]:
    """The rows (name, text) of a table, each with the image that it names, or None where that is none of them.

    An image is named by its path, absolute or relative to the table's folder, to one of the ``paths`` (folders, or
    pictures in them), to the working directory, or to the folder above one of the ``paths``, the first of these that
    fits; or by its bare name, if no other image has that. Raises FileNotFoundError, and ValueError for a name that may
    be several images.
    """
    rows = read_table(file, NAME_COLUMNS, TEXT_COLUMNS)
    folders = [Path(os.path.abspath(path if path.is_dir() else path.parent)) for path in paths]
    names = _Names(images, [[file.parent], folders, [Path()], [folder.parent for folder in folders]])
    for row in rows:
        yield row, names.image(row.texts[0].replace("\\", "/"), f"{file} {row.place}") if row.texts[0] else None


class _Names:
    """What a table may call images: paths from one of the ``folders``, the first of them that fits, or bare names."""

    def __init__(self, images: Sequence[Path], folders: Sequence[Sequence[Path]]):
        self.folders, self.real = folders, functools.cache(os.path.realpath)
        self.images = {self._spelled(image): image for image in images}
        self.bare: dict[str, list[Path]] = {}
        for image in images:
            self.bare.setdefault(_composed(image.name), []).append(image)

    def image(self, name: str, place: str) -> Path | None:
        """The image of that name; None if it is none of these. Raises ValueError if it may be several."""
        for folders in self.folders:
            spelled = dict.fromkeys(self._spelled(folder / name) for folder in folders)
            if found := [self.images[path] for path in spelled if path in self.images]:
                break
        else:
            found = self.bare.get(_composed(name), [])
        if len(found) > 1:
            raise ValueError(
                f"{place}: {name!r} may be {found[0]} or {found[1]}; name images by their path from the table's folder"
            )
        return found[0] if found else None

    def _spelled(self, path: Path) -> str:
        """One spelling for all paths to a file; a link to a picture is a picture of its own."""
        folder, name = os.path.split(os.path.abspath(path))
        return _composed(os.path.normcase(os.path.join(self.real(folder), name)))


def _composed(name: str) -> str:
    """A name with each accent in its letter; some systems write names with accents of their own."""
    return unicodedata.normalize("NFC", name)
