"""Pictures on disk and the prompts that belong to them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .prompt_files import PROMPT_COLUMNS, TABLES, find_column, read_lines, read_table

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
ALPHA = ("RGBA", "LA", "RGBa")  # PIL's modes with an alpha channel
NAME_COLUMNS = ("image", "file", "file_name", "filename", "path")


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Files as named, and all pictures in folders and below, sorted within each.

    Raises FileNotFoundError for a path that is not there, ValueError if no picture is found.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        elif path.is_file():
            found.append(path)
        else:
            raise FileNotFoundError(f"{path}: no such file or folder")
    if not found:
        raise ValueError(f"no pictures in {', '.join(map(str, paths))}; expected {', '.join(sorted(SUFFIXES))}")
    return list(dict.fromkeys(found))


def read_image(path: Path) -> torch.Tensor:
    """``[3, H, W]`` in [0, 1], grey three times and a palette's colours; with an alpha channel ``[4, H, W]``.

    A turn in the EXIF data is not followed. Raises OSError (PIL's UnidentifiedImageError among them), SyntaxError or
    ValueError for a damaged picture, and ValueError for grey with more than 8 bits, which PIL would clip; colours with
    16 bits are read as their upper 8.
    """
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path) as image:
            require_8_bits(image)
            if image.mode == "P":
                image = image.convert("RGBA").convert("RGB")  # PIL warns where it drops a palette's transparency itself
            pixels = np.array(image.convert("RGBA" if image.mode in ALPHA else "RGB"))
    except Image.DecompressionBombError as error:  # of no class that damaged pictures have
        raise ValueError(str(error)) from error
    return torch.from_numpy(pixels).permute(2, 0, 1).float().div(255)


def require_8_bits(image: Image.Image) -> None:
    """Raises ValueError for a picture with more, whose values PIL would clip."""
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"its pixels are {image.mode}; expected 8 bits a channel, so convert it first")


def prompts_for(images: Sequence[Path], prompt: str | None, file: Path | None, paths: Sequence[Path] = ()) -> list[str]:
    """One prompt for each image: ``prompt`` for all, or from ``file``.

    A text file has one line per image, in the images' order; a ``.csv`` or ``.tsv`` has a column with the image and one
    with the prompt. An image is named by its path, absolute or relative to the table's folder, to one of the ``paths``
    (folders, or pictures in them) or to the working directory, the first of these that fits; or by its bare name, if no
    other image has that. Raises FileNotFoundError, and ValueError that names the count or the image.
    """
    if (prompt is None) == (file is None):
        raise ValueError("give either --prompt TEXT for all images or --prompts FILE")
    if prompt is not None:
        return [prompt] * len(images)
    if file.suffix.lower() in TABLES:
        return _from_table(images, file, paths)
    lines = read_lines(file)
    while lines and not lines[-1]:
        lines.pop()
    if len(lines) != len(images):
        raise ValueError(
            f"{file} has {len(lines)} lines for {len(images)} images; expected one line per image, or a .csv with the "
            f"columns {NAME_COLUMNS[0]} and {PROMPT_COLUMNS[0]}"
        )
    return lines


def _from_table(images: Sequence[Path], file: Path, paths: Sequence[Path]) -> list[str]:
    columns, rows = read_table(file)
    name, prompt = find_column(columns, NAME_COLUMNS, file), find_column(columns, PROMPT_COLUMNS, file)
    names = _Names(images, [[file.parent], [path if path.is_dir() else path.parent for path in paths], [Path()]])
    found: dict[str, tuple[str, str]] = {}
    for row in rows:
        named = (row[name] or "").replace("\\", "/")
        image = names.image(named, file) if named else None
        if image in found:
            raise ValueError(f"{file} has two rows for one image: {found[image][0]!r} and {named!r}; leave one out")
        if image is not None:
            found[image] = named, (row[prompt] or "").strip()
    for image in images:
        if _spelled(image) not in found:
            raise ValueError(
                f"{file} has no row for {image}; its column {name} names images by name, or by path from the table's "
                "folder, from what is scored or from the working directory"
            )
    return [found[_spelled(image)][1] for image in images]


class _Names:
    """What a table may call images: paths from one of the ``folders``, the first of them that fits, or bare names."""

    def __init__(self, images: Sequence[Path], folders: Sequence[Sequence[Path]]):
        self.folders, self.images = folders, set(map(_spelled, images))
        self.bare: dict[str, set[str]] = {}
        for image in images:
            self.bare.setdefault(image.name, set()).add(_spelled(image))

    def image(self, name: str, file: Path) -> str | None:
        """The one spelling of the image's path; None if it is none of these. Raises ValueError if it may be several."""
        for folders in self.folders:
            spelled = dict.fromkeys(_spelled(folder / name) for folder in folders)
            if found := [path for path in spelled if path in self.images]:
                break
        else:
            found = sorted(self.bare.get(name, ()))
        if len(found) > 1:
            raise ValueError(
                f"{name!r} in {file} may be {found[0]} or {found[1]}; name images by their path from the table's folder"
            )
        return found[0] if found else None


def _spelled(path: Path) -> str:
    return os.path.normcase(os.path.abspath(path))
