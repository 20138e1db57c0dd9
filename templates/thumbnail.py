"""A template's thumbnail from the receipt of its run: all of it, on a square of its page's color.

python -m understudy.templates.thumbnail RECEIPT "Understudy 1 - Demo (no download)"
"""

import sys
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageOps

FOLDER = Path(__file__).parents[1] / "example_workflows"
SIDE = 400


def square(receipt: Image.Image) -> Image.Image:
    receipt = receipt.convert("RGB")
    return ImageOps.pad(receipt, (SIDE, SIDE), Image.LANCZOS, color=receipt.getpixel((0, 0)))


def save(receipt: Image.Image, file: Path | BinaryIO) -> None:
    square(receipt).save(file, "JPEG", quality=90)


if __name__ == "__main__":
    given, name = sys.argv[1:]
    save(Image.open(given), FOLDER / f"{name}.jpg")
