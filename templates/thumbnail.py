"""A template's thumbnail from the receipt of its run: the largest square at its top left, where its headline begins.

python -m understudy.templates.thumbnail RECEIPT "Understudy 1 - Demo (no download)"
"""

import sys
from pathlib import Path

from PIL import Image

FOLDER = Path(__file__).parents[1] / "example_workflows"
SIDE = 400


def square(receipt: Image.Image) -> Image.Image:
    side = min(receipt.size)
    return receipt.convert("RGB").crop((0, 0, side, side)).resize((SIDE, SIDE), Image.LANCZOS)


if __name__ == "__main__":
    given, name = sys.argv[1:]
    square(Image.open(given)).save(FOLDER / f"{name}.jpg", quality=90)
