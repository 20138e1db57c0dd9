"""Pictures as folders hold them, generated from a seed: formats, modes, profiles, damage; each with its outcome.

What is right is what Pillow decodes from the same bytes, in a PNG without anything beside the pixels.
"""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from .outcomes import Case, Refused, Right

# Suffix, Pillow's name for the format and options with which it is lossless or the same in each run.
FORMATS = (
    (".png", "PNG", {}),
    (".apng", "PNG", {}),
    (".jpg", "JPEG", {"quality": 95}),
    (".jfif", "JPEG", {}),
    (".webp", "WEBP", {"lossless": True}),
    (".avif", "AVIF", {}),
    (".jp2", "JPEG2000", {}),
    (".tiff", "TIFF", {}),
    (".bmp", "BMP", {}),
    (".gif", "GIF", {}),
    (".tga", "TGA", {}),
    (".ppm", "PPM", {}),
    (".dds", "DDS", {}),
    (".pcx", "PCX", {}),
    (".sgi", "SGI", {}),
)
DAMAGED = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "TGA", "JPEG2000")
HIDDEN = (".ipynb_checkpoints/a.png", "._a.png", ".thumbnails/a.png", "@eaDir/a.png", ".cache/a.png", "b/.c/a.png")


def picture_cases(seed: int, count: int) -> list[Case]:
    """So many pictures. A right outcome is the picture's pixels, or None for one that is no part of a folder."""
    rng = random.Random(seed)
    kinds = (_any_format, _any_format, _any_format, _truncated, _hidden, _heavy_png, _strip)
    return [kinds[k % len(kinds)](rng, k) for k in range(count)]


def _pixels(rng: random.Random, width: int, height: int, mode: str) -> Image.Image:
    small = np.random.default_rng(rng.randrange(2**32)).integers(0, 255, (4, 5, 4), dtype=np.uint8)
    return Image.fromarray(small, "RGBA").resize((width, height), Image.BICUBIC).convert(mode)


def _bytes(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _decoded(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content)) as image:
        if image.mode == "P":
            return image.convert("RGBA").convert("RGB")
        return image.convert("RGBA" if image.mode in ("RGBA", "LA", "RGBa") else "RGB")


def _case(name: str, file: str, content: bytes, outcome) -> Case:
    def make(folder: Path) -> None:
        path = folder / "pictures" / file
        path.parent.mkdir(parents=True)
        path.write_bytes(content)

    return Case(name, make, outcome)


def _any_format(rng: random.Random, number: int) -> Case:
    suffix, kind, options = FORMATS[number % len(FORMATS)]
    modes = {"JPEG": ("RGB", "L", "CMYK"), "PNG": ("RGB", "RGBA", "L", "LA", "P", "1"), "GIF": ("P", "L")}
    mode = rng.choice(modes.get(kind, ("RGB",)))
    content = _bytes(_pixels(rng, rng.randrange(9, 70), rng.randrange(9, 70), mode), kind, **options)
    file = f"a{suffix.upper() if rng.random() < 0.3 else suffix}"
    return _case(f"picture {number}, {file} of {mode}", file, content, Right(_decoded(content)))


def _truncated(rng: random.Random, number: int) -> Case:
    """The end is missing: its name and the reason, and no grey half."""
    kind = DAMAGED[number % len(DAMAGED)]
    whole = _bytes(_pixels(rng, 64, 64, "RGB" if kind != "GIF" else "P"), kind)
    file = f"a.{kind.lower().replace('jpeg2000', 'jp2')}"
    content = whole[: len(whole) * rng.randrange(40, 70) // 100]
    return _case(f"picture {number}, {kind} cut off", file, content, Refused((file,)))


def _hidden(rng: random.Random, number: int) -> Case:
    file = rng.choice(HIDDEN)
    return _case(f"picture {number}, {file}", file, _bytes(_pixels(rng, 20, 20, "RGB"), "PNG"), Right(None))


def _heavy_png(rng: random.Random, number: int) -> Case:
    """A workflow or a color profile of megabytes beside the pixels, which the host's own loader reads."""
    image, options = _pixels(rng, 30, 20, "RGB"), {}
    if rng.random() < 0.5:
        text = PngImagePlugin.PngInfo()
        text.add_text("workflow", "x" * 2_000_000, zip=True)
        options["pnginfo"] = text
    else:
        options["icc_profile"] = b"\0" * 2_000_000
    content = _bytes(image, "PNG", **options)
    return _case(f"picture {number}, a PNG with much {next(iter(options))}", "a.png", content, Right(image))


def _strip(rng: random.Random, number: int) -> Case:
    """Far longer than wide, or the other way."""
    size = rng.choice(((3000, 3), (3, 3000), (2000, 40), (40, 2000), (1, 700)))
    image = _pixels(rng, *size, "RGB")
    return _case(f"picture {number}, {size[0]} x {size[1]}", "a.png", _bytes(image, "PNG"), Right(image))
