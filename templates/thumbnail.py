"""A template's thumbnail from a run of it: the top of its receipt, or the middle of any other picture, as a square.

python -m understudy.templates.thumbnail PICTURE "Understudy 1 - Demo (no download)"
"""

import sys
from pathlib import Path

from PIL import Image

FOLDER = Path(__file__).parents[1] / "example_workflows"
SIDE = 400


def square(picture: Image.Image) -> Image.Image:
    """The largest square of it, at the top of what is upright and in the middle of what is not."""
    side = min(picture.size)
    left = (picture.width - side) // 2
    return picture.convert("RGB").crop((left, 0, left + side, side)).resize((SIDE, SIDE), Image.LANCZOS)


if __name__ == "__main__":
    given, name = sys.argv[1:]
    square(Image.open(given)).save(FOLDER / f"{name}.jpg", quality=90)
