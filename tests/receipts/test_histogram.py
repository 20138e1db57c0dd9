"""A calibration drawn: bars where the scores are, lines at its percentiles, bands where these lie."""

import numpy as np
import pytest
from PIL import ImageColor
from understudy.oracles.calibration import Calibration, CalibrationError
from understudy.oracles.published_calibrations import PUBLISHED_CALIBRATIONS
from understudy.receipts import histogram as module
from understudy.receipts.histogram import BINS, GROUND, MARGIN, TOP, WIDTH, histogram
from understudy.receipts.looks import DARK, LIGHT
from understudy.samplers.decisions import REFINED

BAR, LINE = DARK.line, DARK.decisions[REFINED]


def calibration(scores):
    return Calibration("mine", {str(i): float(score) for i, score in enumerate(scores)}, {}, "f" * 64, "")


def height(picture, part):
    """How high the bar in the middle of a part, 0 to 1, of the scores' range is."""
    x = round(MARGIN + part * (WIDTH - 1 - 2 * MARGIN))
    return sum(picture.getpixel((x, y)) == ImageColor.getrgb(BAR) for y in range(GROUND))


def count(picture, colour):
    return int((np.asarray(picture)[TOP:GROUND] == ImageColor.getrgb(colour)).all(-1).sum())


def band(picture):
    """How wide the bands under the bars are together."""
    return int((np.asarray(picture)[GROUND + 6] == ImageColor.getrgb(LINE)).all(-1).sum())


def test_bars_are_as_high_as_scores_are_many():
    picture = histogram(calibration([*range(100), *[50] * 100]))
    middle = 50 / 99
    assert height(picture, middle) == max(height(picture, place / BINS) for place in range(1, BINS))
    assert 0 < height(picture, 0.2) < height(picture, middle) / 5
    flat = histogram(calibration(range(200)))
    assert height(flat, 0.21) == pytest.approx(height(flat, middle), rel=0.05), "of scores that are spread evenly"


def test_percentiles_are_lines_and_what_is_sure_of_them_bands():
    table = calibration(range(100))
    without, lines, sure = histogram(table), histogram(table, (20, 50)), histogram(table, (20, 50), True)
    assert count(without, LINE) == 0 < count(lines, LINE)
    assert band(lines) == 0 < band(sure)
    few, many = (histogram(calibration(list(range(100)) * times), (50,), True) for times in (1, 9))
    assert band(few) > 2 * band(many), "more images, narrower bands"


def test_lines_and_numbers_are_those_of_the_calibration(monkeypatch):
    said = {}
    monkeypatch.setattr(module, "write", lambda picture, at, text, *more: said.setdefault(text, at))
    table = calibration(range(100))
    picture = histogram(table, (20, 80))
    assert {"20 %", "80 %", "scores: 100", module.number(0.0), module.number(99.0)} <= said.keys()
    assert said[module.number(0.0)][0] < said[module.number(99.0)][0]
    drawn = (np.asarray(picture)[TOP:GROUND] == ImageColor.getrgb(LINE)).all(-1).any(0).nonzero()[0]
    for k in (20, 80):
        place = MARGIN + table.value_at(k) / 99 * (WIDTH - 1 - 2 * MARGIN)
        assert abs(drawn - place).min() <= 1 and said[f"{k} %"][0] == pytest.approx(place, abs=1)
        assert said[module.number(table.value_at(k))][0] == pytest.approx(place, abs=1)
    assert len(drawn) <= 8, "no other line"


def test_one_score_equal_scores_and_bare_tables_are_drawn():
    assert count(histogram(calibration([3])), BAR) and count(histogram(calibration([1] * 40), (30,)), BAR)
    for table in PUBLISHED_CALIBRATIONS.values():
        assert count(histogram(table, (10, 50, 90), table.n is not None), LINE)
    with pytest.raises(CalibrationError, match="has no scores yet"):
        histogram(calibration([]))


def test_it_has_the_receipt_s_looks():
    table = calibration(range(40))
    dark, light = histogram(table), histogram(table, look=LIGHT)
    assert [each.getpixel((2, 2)) for each in (dark, light)] == [ImageColor.getrgb(each.page) for each in (DARK, LIGHT)]
