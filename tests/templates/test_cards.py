"""Drawn thumbnails."""

import pytest
from PIL import ImageColor
from understudy.lettering import length
from understudy.receipts.looks import DARK
from understudy.templates.cards import GOLD, MARGIN, SIDE, TEXT, TITLE, card, drawn

GREEN, ORANGE = DARK.decisions["kept"], DARK.decisions["refined"]
LINES = [("student", "Lightning, 4 steps"), ("teacher", "SDXL, 25 steps")]


def colours_of(picture):
    return {colour: count for count, colour in picture.getcolors(picture.width * picture.height)}


def count(picture, colour):
    return colours_of(picture).get(ImageColor.getrgb(colour), 0)


def test_each_letter_is_a_mark_of_its_own():
    stars = {letter: drawn([letter], 60, 60) for letter in "*o+v."}
    colours = {
        letter: {name for name in (GREEN, ORANGE, GOLD, DARK.faint) if count(each, name)}
        for letter, each in stars.items()
    }
    assert colours == {"*": {GREEN}, "o": {ORANGE}, "+": {GOLD}, "v": {DARK.faint}, ".": set()}
    assert count(stars["*"], GREEN) > 3 * count(stars["o"], ORANGE)  # a full star, and dashes


def test_marks_stand_where_the_rows_have_them():
    picture = drawn(["*.", ".+"], 100, 100)
    quarters = [picture.crop(box) for box in ((0, 0, 50, 50), (50, 0, 100, 50), (0, 50, 50, 100), (50, 50, 100, 100))]
    assert [count(each, GREEN) > 0 for each in quarters] == [True, False, False, False]
    assert [count(each, GOLD) > 0 for each in quarters] == [False, False, False, True]


def test_stars_fit_into_their_room():
    assert drawn(["*" * 8, "." * 8, "+" * 8], 536, 240).size == (536, 201)
    assert drawn(["*", "+", "o"], 536, 240).size == (80, 240)
    with pytest.raises(KeyError):
        drawn(["x"], 60, 60)


def test_a_card_is_square_and_nothing_of_it_goes_over_its_margin():
    long = "A title of so many words that it has to be cut to two lines of what a card can hold of it"
    picture = card(long, [("student", "a student whose name does not fit either, and its steps"), *LINES], ["***+"])
    assert picture.size == (SIDE, SIDE) and picture.mode == "RGB"
    assert (
        length(long, TITLE) > 2 * SIDE
        and length("a student whose name does not fit either", TEXT) > SIDE - 2 * MARGIN - 100
    )
    page = ImageColor.getrgb(DARK.page)
    for box in (
        (0, 0, SIDE, MARGIN),
        (0, 0, MARGIN, SIDE),
        (SIDE - MARGIN, 0, SIDE, SIDE),
        (0, SIDE - MARGIN, SIDE, SIDE),
    ):
        assert set(colours_of(picture.crop(box))) == {page}, box


def test_a_card_says_its_title_and_lines():
    def text_of(*given):
        picture = card(*given)
        return count(picture, DARK.ink), count(picture, DARK.faint)

    ink, faint = text_of("SDXL", LINES, ["*"])
    assert text_of("SDXL Lightning", LINES, ["*"])[0] > ink
    more_ink, more_faint = text_of("SDXL", [*LINES, ("oracle", "ImageReward")], ["*"])
    assert more_ink > ink and more_faint > faint
