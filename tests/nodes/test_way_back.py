"""How far back each image goes by its score, without ComfyUI (tests/host compares what comes of it)."""

from types import SimpleNamespace

import pytest
from understudy.nodes.way_back import badness, rollback_of
from understudy.oracles.calibration import Calibration
from understudy.oracles.threshold import Threshold

THRESHOLD = Threshold.percentile(Calibration("mine", {str(i): i / 100 for i in range(101)}, {}, "", "p"), 50)


def test_only_batches_whose_strength_follows_the_score_have_badness():
    values = [0.5, 0.25, 0.0, 0.9]
    assert badness(values, THRESHOLD, [2, 2], ["fixed"]) == [None, None]
    assert badness(values, THRESHOLD, [2, 2], ["by score"]) == [(0, pytest.approx(0.5)), (1, 0)]
    assert badness(values, THRESHOLD, [2, 2], ["fixed", "by score"]) == [None, (1, 0)]
    assert badness(values, Threshold.worst_fraction(0.5), [2, 2], ["fixed"]) == [None, None]


@pytest.mark.parametrize("threshold", [Threshold.fixed(0.5), Threshold.worst_fraction(0.5)])
def test_a_threshold_without_a_calibration_is_refused_with_what_to_do(threshold):
    with pytest.raises(
        ValueError, match="strength is 'by score', but .* mode percentile or budget, or set strength to 'fixed'"
    ):
        badness([0.5], threshold, [1], ["by score"])


def test_a_rollback_goes_from_the_table_s_or_the_widget_s_to_the_worst_in_two_digits():
    take = SimpleNamespace(rollback=0.4, rollback_worst=0.9)
    assert rollback_of(SimpleNamespace(rollback=0.655), None, None) == 0.655, "the widget's is as it was typed"
    assert rollback_of(take, None, 0.6858) == 0.69
    assert [rollback_of(take, bad, None) for bad in (0.0, 0.25, 1.0)] == [0.4, 0.53, 0.9]
    assert rollback_of(take, 0.5, 0.6858) == 0.79
    lower = SimpleNamespace(rollback=0.4, rollback_worst=0.3)
    assert rollback_of(lower, 0.5, None) == 0.35
