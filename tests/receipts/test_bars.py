"""A score is where the bar says it is, and the histogram is the calibration's."""

import math

import pytest
import torch
from understudy.oracles.calibration import Calibration
from understudy.oracles.threshold import Threshold
from understudy.receipts import bars
from understudy.receipts.bars import HEIGHT, RADIUS, Axis, Mark, Scale, scale_of, shares
from understudy.receipts.looks import LIGHT

WIDTH, RED = 401 + 2 * RADIUS, "#e60000"


def columns(picture, colour, rows=slice(0, HEIGHT)):
    """The columns of a picture that have a colour."""
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(*picture.size[::-1], 3)
    return (pixels == torch.tensor(tuple(bytes.fromhex(colour[1:])))).all(-1)[rows].any(0).nonzero().flatten().tolist()


def bar(marks=(), threshold=None, distribution=None, scores=()):
    return Axis(Scale(0.0, 4.0), distribution, scores, LIGHT, 22).bar(marks, threshold, WIDTH)


@pytest.mark.parametrize("score, place", [(0, 0), (1, 100), (3, 300), (4, 400), (-math.inf, 0), (math.inf, 400)])
def test_a_mark_is_at_its_score(score, place):
    for filled in (True, False):
        found = columns(bar([Mark(score, RED, filled)]), RED)
        assert (found[0] + found[-1]) / 2 == place + RADIUS and len(found) == 2 * RADIUS + 1
    ring, dot = (bar([Mark(score, RED, filled)]).getpixel((place + RADIUS, HEIGHT - RADIUS - 1)) for filled in (0, 1))
    assert ring == (255, 255, 255) and dot == (230, 0, 0)


def test_a_line_goes_from_before_to_after():
    apart = bar([Mark(1, LIGHT.ink, False), Mark(3, RED, True)])
    assert {100 + 2 * RADIUS + 1, 200, 300} <= set(columns(apart, RED))
    back = bar([Mark(3, LIGHT.ink, False), Mark(1, RED, True)])
    assert max(columns(back, RED)) < 300 + RADIUS and 200 in columns(back, RED)
    kept = bar([Mark(1, RED, False), Mark(3, RED, False)])
    assert 200 not in columns(kept, RED)


def test_the_threshold_is_a_line_with_what_it_rejects_to_its_left():
    cut = bar(threshold=1.0)
    assert columns(cut, LIGHT.ink) == [99 + RADIUS, 100 + RADIUS] or columns(cut, LIGHT.ink) == [
        100 + RADIUS,
        101 + RADIUS,
    ]
    assert max(columns(cut, LIGHT.rejected)) < 100 + RADIUS and 0 in columns(cut, LIGHT.rejected)
    none = bar()
    assert columns(none, LIGHT.rejected) == [] and cut.height > none.height == HEIGHT  # its number is below
    below = slice(HEIGHT + 1, None)
    for threshold, middle in ((2.0, WIDTH / 2), (0.0, None), (4.0, None)):
        said = [x for x in range(WIDTH) if x not in set(columns(bar(threshold=threshold), LIGHT.card, below))]
        assert said == [] or middle is None
        letters = columns(bar(threshold=threshold), LIGHT.faint, below)
        assert letters and 0 <= letters[0] and letters[-1] < WIDTH
        assert middle is None or abs((letters[0] + letters[-1]) / 2 - middle) < 4
    assert max(columns(bar(threshold=math.inf), LIGHT.rejected)) > 300


def test_the_threshold_s_number_stands_below_its_line_as_far_as_there_is_room(monkeypatch):
    said = []
    monkeypatch.setattr(bars, "write", lambda picture, at, text, *more: said.append((text, at[0])))
    for threshold in (1.0, 0.0, 4.0, math.inf):
        bar(threshold=threshold)
    assert [text for text, _ in said] == [
        *("threshold 1.000", "threshold 0.000", "threshold 4.000", "threshold: all of them")
    ]
    (_, middle), (_, left), (_, right), _ = said
    assert middle == 100 + RADIUS and left < WIDTH / 3 and right > 2 * WIDTH / 3


def test_the_histogram_has_the_calibration_s_shares_and_the_ticks_are_only_without_it():
    scores = [0.5] * 30 + [2.5] * 60 + [3.5] * 10
    table = Calibration("mine", {str(k): each + k / 1000 for k, each in enumerate(scores)}, {}, "x", "p")
    for rule in (Threshold.percentile(table, 30), Threshold.fixed(1.0, table)):
        parts = shares(rule.distribution, Scale(0.0, 4.0), 4)
        assert parts == pytest.approx([30, 0, 60, 10], abs=1.5) and sum(parts) == pytest.approx(100)
    assert Threshold.fixed(1.0).distribution is None and Threshold.worst_n(1).distribution is None
    drawn = bar(distribution=rule.distribution, scores=[2.0])
    top = columns(drawn, LIGHT.line, slice(0, 8))
    assert all(250 < x - RADIUS < 270 for x in top) and top, "the highest column is that of most scores"
    middle = columns(drawn, LIGHT.line, slice(8, HEIGHT - RADIUS - 5))
    assert not [x for x in middle if 105 < x - RADIUS < 240], "and there are no ticks"
    ticks = columns(bar(scores=[2.0]), LIGHT.line, slice(8, HEIGHT - RADIUS - 5))
    assert {200 + RADIUS} <= set(ticks) and len(ticks) <= 2


def test_equal_scores_are_one_column():
    assert shares([(1.0, 0.0), (1.0, 100.0)], Scale(0.0, 4.0), 4) == [0, 100, 0, 0]
    assert shares([(4.0, 0.0), (4.0, 100.0)], Scale(0.0, 4.0), 4) == [0, 0, 0, 100]


def test_a_scale_has_room_for_all_that_is_finite():
    scale = scale_of([1.0, None, 3.0, -math.inf], [2.5, None, math.inf])
    assert scale.low < 1 < 3 < scale.high < 3.5 and not scale.breaks
    both = scale_of([-1.0, 9.0], [], [(0.0, 0.0), (2.0, 100.0)])
    assert [both.place(score) for score in (-math.inf, -1.0, 9.0, math.inf)] == [0, 0, 1, 1]
    alone = scale_of([1.0])
    assert alone.place(1.0) == 0.5 and scale_of([None]).place(0.5) == 0.5


def test_scores_near_the_threshold_are_told_apart_whatever_is_far_away():
    far = [(-90.0, 0.0), *((k / 100, float(k)) for k in range(1, 100)), (40.0, 100.0)]
    scale = scale_of([0.28, 0.32, -70.0], [0.3], far)
    near = scale.place(0.32) - scale.place(0.28)
    assert near > 0.015, "of 348 pixels more than five"
    low, high = scale.breaks
    assert low < 0.05 and 0.95 < high and scale.place(low) + 1 - scale.place(high) == pytest.approx(0.1)
    places = [scale.place(score) for score in (-90, -70, -1, 0.05, 0.3, 0.95, 2, 40)]
    assert places == sorted(places) and len(set(places)) == 8 and (places[0], places[-1]) == (0, 1)
    rising = scale_of([], [-50.0], far)
    assert rising.low < -50 and rising.breaks[0] == rising.low, "the threshold is on the even part"
    assert sum(shares(far, scale)) == pytest.approx(100)


def test_a_short_tail_is_even_and_a_squeezed_one_is_seen():
    table = [(k / 100, float(k)) for k in range(101)]
    even, squeezed = scale_of([1.02], [], table), scale_of([9.0], [], table)
    assert not even.breaks
    steps = [even.place((k + 1) / 10) - even.place(k / 10) for k in range(10)]
    assert steps == pytest.approx([steps[0]] * 10)
    drawn = {}
    for scale in (even, squeezed):
        pixels = columns(Axis(scale, table, (), LIGHT, 22).bar([], None, WIDTH), LIGHT.faint)
        drawn[scale] = [x for x in pixels if x > WIDTH / 2]
    (end,) = squeezed.breaks
    mark = drawn[squeezed]
    assert not drawn[even] and mark[0] < Axis(squeezed, table, (), LIGHT, 22).x(end, WIDTH) < mark[-1]
