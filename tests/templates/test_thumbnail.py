"""Thumbnails of runs."""

import pytest
from PIL import Image
from understudy.templates.thumbnail import SIDE, square

RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.mark.parametrize("size, box", [((80, 200), (0, 0, 80, 80)), ((200, 80), (0, 0, 80, 80))])
def test_a_thumbnail_is_the_top_left_of_a_receipt(size, box):
    receipt = Image.new("RGBA", size, BLUE)
    receipt.paste(RED, box)
    found = square(receipt)
    assert found.size == (SIDE, SIDE) and found.mode == "RGB"
    assert found.getcolors() == [(SIDE * SIDE, RED)]
