"""Thumbnails of runs."""

import pytest
from PIL import Image
from understudy.templates.thumbnail import SIDE, square

RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.mark.parametrize("size, box", [((80, 200), (0, 0, 80, 80)), ((200, 80), (60, 0, 140, 80))])
def test_a_thumbnail_is_the_top_or_the_middle_of_a_picture(size, box):
    picture = Image.new("RGBA", size, BLUE)
    picture.paste(RED, box)
    found = square(picture)
    assert found.size == (SIDE, SIDE) and found.mode == "RGB"
    assert found.getcolors() == [(SIDE * SIDE, RED)]
