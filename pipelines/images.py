"""Pictures on disk and the texts that belong to them."""

from __future__ import annotations

import functools
import io
import mimetypes
import os
import re
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from ..tables import NAME_COLUMNS, TEXT_COLUMNS, Row, read_list, read_table

if TYPE_CHECKING:
    from PIL import Image

ALPHA = ("RGBA", "LA", "RGBa")  # PIL's modes with an alpha channel
# Formats that PIL only takes up: EPS it hands to Ghostscript, of MPEG it reads the size alone.
UNDECODED = ("EPS", "MPEG")
# Endings of pictures of which neither PIL nor every system's table of types knows that they are pictures.
MORE_PICTURES = {".avif", ".heic", ".heif", ".jxl", ".eps", ".wmf", ".emf", ".dng", ".cr2", ".cr3", ".nef", ".arw"}


class Found(NamedTuple):
    """Pictures in their order, and why others in the same folders are none of them."""

    images: list[Path]
    left_out: dict[Path, str]


@functools.cache
def suffixes() -> frozenset[str]:
    """How the names of pictures end, of all raster formats that this PIL decodes without another program."""
    from PIL import Image, ImageFile

    Image.init()

    def decodes(kind: str) -> bool:
        opens = Image.OPEN.get("JPEG" if kind == "MPO" else kind, (None,))[0]  # an MPO begins with a JPEG
        stub = isinstance(opens, type) and issubclass(opens, ImageFile.StubImageFile)
        return opens is not None and not stub and kind not in UNDECODED

    return frozenset(suffix for suffix, kind in Image.EXTENSION.items() if decodes(kind))


def find_images(paths: Iterable[Path]) -> Found:
    """Files as named, and all pictures in folders and below, 2 before 10 within each; hidden ones are no pictures.

    Raises FileNotFoundError for a path that is not there, OSError for a folder that cannot be listed, and ValueError
    if no picture is found.
    """
    found, left_out = [], {}
    for path in paths:
        if path.is_dir():
            inside = _visible(path)
            found += [file for file in inside if file.suffix.lower() in suffixes()]
            left_out |= {file: why for file in inside if (why := _left_out(file))}
        elif path.is_file():
            found.append(path)
        else:
            raise FileNotFoundError(f"{path}: no such file or folder")
    if not found:
        others = f"; {len(left_out)} left out: {_first(left_out)}" if left_out else ""
        raise ValueError(
            f"no pictures in {', '.join(map(str, paths))}; expected .png, .jpg, .webp or another format that PIL "
            f"decodes{others}"
        )
    return Found(list(dict.fromkeys(found)), left_out)


def hidden(name: str) -> bool:
    """Whether a file or folder of that name is another program's: previews, copies, what a system notes of a file."""
    return name.startswith(".") or name == "@eaDir"


def natural(path: Path) -> tuple:
    """A key that sorts paths folder by folder, with numbers in names as numbers: 2 before 10."""
    parts = [[int(bit) if i % 2 else bit for i, bit in enumerate(re.split(r"(\d+)", part))] for part in path.parts]
    return parts, str(path)


def _visible(folder: Path) -> list[Path]:
    def fail(error: OSError):
        raise error

    files = []
    for inside, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not hidden(name)]
        links = [name for name in folders if os.path.islink(os.path.join(inside, name))]
        files += [Path(inside, name) for name in [*names, *links] if not hidden(name)]
    return sorted(files, key=natural)


def _left_out(file: Path) -> str:
    """Why what may be pictures is none; "" for what is one, or is no picture anyway."""
    suffix = file.suffix.lower()
    if suffix in suffixes():
        return ""
    if file.is_dir():
        return "it is a link to a folder, which may lead back to where it lies; name it as well"
    known = suffix in MORE_PICTURES or (mimetypes.guess_type(f"_{suffix}")[0] or "").startswith("image/")
    return f"PIL does not decode {file.suffix}" if known else ""


def _first(left_out: dict[Path, str]) -> str:
    path = next(iter(left_out))
    return f"{path} ({left_out[path]})"


@contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """A picture's file as PIL opens it; of an animated one, its first frame.

    A PNG's compressed texts and colour profile may be of any size, as for ComfyUI's own loader.
    Raises OSError (PIL's UnidentifiedImageError among them), SyntaxError or ValueError for a damaged picture, also
    within the block, where it is decoded; ValueError for one with more than 8 bits a channel, whose values PIL would
    clip (colours with 16 bits are read as their upper 8), or with so many pixels that PIL takes it for an attack.
    """
    from PIL import Image

    if data.startswith(PNG):
        data = _without_excess(data)
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"its pixels are {image.mode}; expected 8 bits a channel, so convert it first")
            yield image
    except Image.DecompressionBombError as error:  # of no class that damaged pictures have
        raise ValueError(str(error)) from error


PNG = b"\x89PNG\r\n\x1a\n"
# Where the compressed part of a PNG's chunk begins: a profile's and a text's name and method; for an international text
# also its flag, language and translated name.
COMPRESSED = {
    b"iCCP": re.compile(rb"(?s)[^\0]*\0."),
    b"zTXt": re.compile(rb"(?s)[^\0]*\0."),
    b"iTXt": re.compile(rb"(?s)[^\0]*\0\x01.[^\0]*\0[^\0]*\0"),
}


def _without_excess(data: bytes) -> bytes:
    """A PNG without those texts and profiles at whose size PIL refuses the whole file; pixels need neither."""
    from PIL.PngImagePlugin import MAX_TEXT_CHUNK

    kept, at = [data[: len(PNG)]], len(PNG)
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        before = COMPRESSED.get(data[at + 4 : at + 8])
        if before is None or not _is_larger(data[at + 8 : end - 4], before, MAX_TEXT_CHUNK):
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def _is_larger(content: bytes, before: re.Pattern, limit: int) -> bool:
    start = before.match(content)
    packed = zlib.decompressobj()
    try:
        return bool(start) and len(packed.decompress(content[start.end() :], limit + 1)) > limit
    except zlib.error:
        return False  # PIL has its own answer to that


def read_image(path: Path) -> torch.Tensor:
    """``[3, H, W]`` in [0, 1], grey three times and a palette's colours; with an alpha channel ``[4, H, W]``.

    A turn in the EXIF data is not followed. Raises as :func:`opened`.
    """
    import numpy as np

    with opened(path.read_bytes()) as image:
        if image.mode == "P":
            image = image.convert("RGBA").convert("RGB")  # PIL warns where it drops a palette's transparency itself
        pixels = np.array(image.convert("RGBA" if image.mode in ALPHA else "RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).float().div(255)


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
