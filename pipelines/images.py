"""Pictures on disk: which there are, and their pixels."""

from __future__ import annotations

import functools
import io
import mimetypes
import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from PIL import Image

ALPHA = ("RGBA", "LA", "RGBa")  # PIL's modes with an alpha channel
# Formats that PIL only takes up: EPS it hands to Ghostscript, of MPEG it reads the size alone.
UNDECODED = ("EPS", "MPEG")
# What PIL raises for a file whose pixels, tags or colour profile are damaged.
DAMAGE = (OSError, SyntaxError, ValueError, TypeError, EOFError, struct.error, zlib.error)
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
def opened(data: bytes, deep: bool = False) -> Iterator[Image.Image]:
    """A picture's file as PIL opens it; of an animated one, its first frame. deep: grey of 16 bits will do.

    A PNG's compressed texts and colour profile may be of any size, as for ComfyUI's own loader.
    Raises OSError, SyntaxError or ValueError for a damaged picture, also within the block, where it is decoded;
    ValueError for what is no picture, for one with more than 8 bits a channel, whose values PIL would clip (colours
    with 16 bits are read as their upper 8), or with so many pixels that PIL takes it for an attack.
    """
    from PIL import Image, UnidentifiedImageError

    if data.startswith(PNG):
        data = _without_excess(data)
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode.startswith(("F",) if deep else ("I", "F")):
                raise ValueError(f"its pixels are {image.mode}; expected 8 bits a channel, so convert it first")
            yield image
    except UnidentifiedImageError as error:  # which names a place in memory
        raise ValueError("PIL knows no picture in it" if data else "it is empty") from error
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


def read_image(path: Path, upright: bool = False) -> torch.Tensor:
    """As :func:`decoded`, from a file."""
    return decoded(path.read_bytes(), upright)


def decoded(data: bytes, upright: bool = False) -> torch.Tensor:
    """``[3, H, W]`` in [0, 1], grey three times and a palette's colours; with an alpha channel ``[4, H, W]``.

    ``upright``: whether a turn in the EXIF data is followed. Raises as :func:`opened`.
    """
    import numpy as np
    from PIL import ImageOps

    with opened(data) as image:
        if upright:
            image = ImageOps.exif_transpose(image)
        if image.mode == "P":
            image = image.convert("RGBA").convert("RGB")  # PIL warns where it drops a palette's transparency itself
        pixels = np.array(image.convert("RGBA" if image.mode in ALPHA else "RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).float().div(255)
