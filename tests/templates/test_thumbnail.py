"""Thumbnails from receipts."""

import pytest
from PIL import Image
from understudy.templates.thumbnail import SIDE, square

PAGE, CARD = (30, 30, 34), (200, 40, 40)


@pytest.mark.parametrize("size", [(1200, 900), (700, 900)])
def test_a_thumbnail_is_the_whole_receipt_on_its_own_color(size):
    receipt = Image.new("RGBA", size, (*PAGE, 255))
    receipt.paste((*CARD, 255), (size[0] - 300, size[1] - 300, size[0] - 100, size[1] - 100))
    found = square(receipt)
    assert found.size == (SIDE, SIDE) and found.mode == "RGB"
    scale, corners = SIDE / max(size), ((0, 0), (SIDE - 1, SIDE - 1))
    middle = [round((SIDE - scale * side) / 2 + scale * (side - 200)) for side in size]
    assert found.getpixel(tuple(middle)) == CARD and all(found.getpixel(corner) == PAGE for corner in corners)
