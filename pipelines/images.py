"""Pictures on disk and the prompts that belong to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .prompt_files import PROMPT_COLUMNS, TABLES, find_column, read_lines, read_table

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
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
    """``[3, H, W]`` in [0, 1], as PIL's conversion to RGB has it: grey three times, alpha dropped.

    Raises OSError (PIL's UnidentifiedImageError among them), SyntaxError or ValueError for a damaged picture, and
    ValueError for one with more than 8 bits, which PIL would clip.
    """
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path) as image:
            require_8_bits(image)
            if image.mode == "P":
                image = image.convert("RGBA")  # PIL warns where it drops a palette's transparency itself
            pixels = np.array(image.convert("RGB"))
    except Image.DecompressionBombError as error:  # of no class that damaged pictures have
        raise ValueError(str(error)) from error
    return torch.from_numpy(pixels).permute(2, 0, 1).float().div(255)


def require_8_bits(image: Image.Image) -> None:
    """Raises ValueError for a picture with more, whose values PIL would clip."""
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"its pixels are {image.mode}; expected 8 bits a channel, so convert it first")


def prompts_for(images: Sequence[Path], prompt: str | None, file: Path | None) -> list[str]:
    """One prompt for each image: ``prompt`` for all, or from ``file``.

    A text file has one line per image, in the images' order; a ``.csv`` or ``.tsv`` has a column with the image (name
    or path) and one with the prompt. Raises FileNotFoundError, and ValueError that names the count or the image.
    """
    if (prompt is None) == (file is None):
        raise ValueError("give either --prompt TEXT for all images or --prompts FILE")
    if prompt is not None:
        return [prompt] * len(images)
    if file.suffix.lower() in TABLES:
        return _from_table(images, file)
    lines = read_lines(file)
    while lines and not lines[-1]:
        lines.pop()
    if len(lines) != len(images):
        raise ValueError(
            f"{file} has {len(lines)} lines for {len(images)} images; expected one line per image, or a .csv with the "
            f"columns {NAME_COLUMNS[0]} and {PROMPT_COLUMNS[0]}"
        )
    return lines


def _from_table(images: Sequence[Path], file: Path) -> list[str]:
    columns, rows = read_table(file)
    name, prompt = find_column(columns, NAME_COLUMNS, file), find_column(columns, PROMPT_COLUMNS, file)
    by_name = {row[name].replace("\\", "/"): (row[prompt] or "").strip() for row in rows if row[name]}
    found = []
    for image in images:
        at = next((key for key in (image.as_posix(), image.name) if key in by_name), None)
        if at is None:
            raise ValueError(f"{file} has no row for {image}; its column {name} names images by name or path")
        found.append(by_name[at])
    return found
