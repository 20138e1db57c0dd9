import math

import pytest
import torch
from understudy.oracles.budget import Budget
from understudy.oracles.calibration import Calibration, CalibrationError
from understudy.oracles.published_calibrations import PUBLISHED_CALIBRATIONS
from understudy.oracles.threshold import Threshold


def calibration_of(values):
    return Calibration("mine", {str(i): float(v) for i, v in enumerate(values)}, {}, "oracle", "cats")


def spread(count=400):
    return torch.randn(count, generator=torch.Generator().manual_seed(0)).tolist()


@pytest.mark.parametrize(
    ("evaluations", "student", "teacher", "share"),
    [(12, 4, 40, 0.2), (4, 4, 40, 0), (44, 4, 40, 1), (100, 4, 40, 1), (8, 5.5, 12, 2.5 / 12), (24, 4, 40, 0.5)],
)
def test_the_share_that_a_budget_pays_for(evaluations, student, teacher, share):
    budget = Budget(evaluations, student, teacher)
    assert budget.share == pytest.approx(share)
    assert budget.spent(budget.share) == pytest.approx(min(evaluations, student + teacher))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((3, 4, 40), "budget is 3 evaluations an image, and the student alone takes 4; give at least 4"),
        ((math.nan, 4, 40), "budget is nan"),
        ((12, 0, 40), "the student's evaluations an image are 0; expected a number above 0"),
        ((12, 4, -1), "the teacher's evaluations an image are -1"),
        ((12, math.nan, 40), "the student's evaluations an image are nan"),
    ],
)
def test_impossible_budgets(given, message):
    with pytest.raises(ValueError, match=message):
        Budget(*given)


def test_a_budget_becomes_a_percentile_that_spends_it():
    values = spread()
    threshold = Threshold.budget(calibration_of(values), Budget(12, 4, 40))
    assert sum(threshold.rejected(values)) == 80, "the worst 20 % of 400"
    assert (threshold.mode, threshold.k, threshold.expected_fraction) == ("budget", pytest.approx(20), 0.2)
    assert threshold.rule == (
        f"scores below {sorted(values)[80]:.3f}, which are 20 % of calibration 'mine' (percentile 20); "
        "budget 12: 4 for each student, 40 for each redone"
    )
    assert sum(Threshold.budget(calibration_of(values), Budget(8, 4, 40)).rejected(values)) == 40, "half as much"
    assert threshold.badness([threshold.value, min(values)]) == [0, 1], "its distance is measured as a percentile's"
    one_by_one = [threshold.rejected([value])[0] for value in values]
    assert one_by_one == threshold.rejected(values), "one image a queue is as good as all"


@pytest.mark.parametrize("count", [20, 37, 400])
@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_no_budget_is_exceeded_on_the_calibration_and_none_is_left_over(count, decimals):
    """For each whole number of images that it pays for, whatever scores are equal."""
    values = [round(value, decimals) for value in spread(count)]
    calibration, ordered = calibration_of(values), sorted(values)
    for paid in range(count):
        budget = Budget(4 + 40 * (paid / count), 4, 40)
        threshold = Threshold.budget(calibration, budget)
        sent = sum(threshold.rejected(values))
        assert threshold.expected_fraction == sent / count
        assert sent <= paid and budget.spent(sent / count) <= budget.evaluations + 1e-9
        assert sent + ordered.count(threshold.value) > paid, "another score would have been too many"


def test_a_budget_for_nothing_and_one_for_everything():
    values = spread(50)
    none = Threshold.budget(calibration_of(values), Budget(4, 4, 40))
    assert not any(none.rejected(values)) and none.k == 0
    for evaluations, said in ((44, ""), (60, ", and no more than 44 can be spent")):
        every = Threshold.budget(calibration_of(values), Budget(evaluations, 4, 40))
        assert all(every.rejected([*values, 1e9])) and every.expected_fraction == 1
        assert every.rule == f"all images (budget {evaluations}: 4 for each student, 40 for each redone{said})"
        assert every.badness([min(values), 1e9]) == [1, 0]


def test_a_bare_table_serves_within_what_it_knows():
    published = PUBLISHED_CALIBRATIONS["ImageReward, LCM-SDXL at 4 steps (published)"]
    threshold = Threshold.budget(published, Budget(12, 4, 40))
    assert threshold.value == pytest.approx(published.value_at(20))
    assert threshold.expected_fraction == pytest.approx(0.2)
    with pytest.raises(CalibrationError, match="known from 10 to 90 %; got percentile 5"):
        Threshold.budget(published, Budget(6, 4, 40))


def test_a_few_scores_are_not_enough():
    with pytest.raises(CalibrationError, match="has 19 scores; percentiles need at least 20"):
        Threshold.budget(calibration_of(spread(19)), Budget(12, 4, 40))
