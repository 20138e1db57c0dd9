"""A calibration drawn: bars where the scores are, lines at its percentiles, bands where these lie."""

import numpy as np
import pytest
from PIL import ImageColor
from understudy.oracles.calibration import Calibration, CalibrationError
from understudy.oracles.published_calibrations import PUBLISHED_CALIBRATIONS
from understudy.receipts.histogram import BAR, BINS, GROUND, LINE, MARGIN, SURE, WIDTH, histogram, shares


def calibration(scores):
    return Calibration("mine", {str(i): float(score) for i, score in enumerate(scores)}, {}, "f" * 64, "")


def height(picture, part):
    """How high the bar in the middle of a part, 0 to 1, of the scores' range is."""
    x = round(MARGIN + part * (WIDTH - 1 - 2 * MARGIN))
    return sum(picture.getpixel((x, y)) == ImageColor.getrgb(BAR) for y in range(GROUND))


def count(picture, colour):
    return int((np.asarray(picture) == ImageColor.getrgb(colour)).all(-1).sum())


def test_shares_are_of_all_scores_and_lie_where_these_do():
    table = calibration([0] * 30 + [8, 10] * 5)
    found = shares(list(zip(table.percentiles, table.levels, strict=True)), 0, 10, 10)
    assert sum(found) == pytest.approx(100) and found[0] == pytest.approx(75, abs=1.5)
    assert found[4] < 1 and found[9] > 10


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
    assert count(lines, SURE) == 0 < count(sure, SURE)
    few, many = (histogram(calibration(list(range(100)) * times), (50,), True) for times in (1, 9))
    assert count(few, SURE) > 2 * count(many, SURE), "more images, narrower bands"


def test_one_score_equal_scores_and_bare_tables_are_drawn():
    assert count(histogram(calibration([3])), BAR) and count(histogram(calibration([1] * 40), (30,)), BAR)
    for table in PUBLISHED_CALIBRATIONS.values():
        assert count(histogram(table, (10, 50, 90), table.n is not None), LINE)
    with pytest.raises(CalibrationError, match="has no scores yet"):
        histogram(calibration([]))
