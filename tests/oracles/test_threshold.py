import hashlib
import math
from dataclasses import fields

import pytest
import torch
from understudy.oracles.base import OracleError
from understudy.oracles.budget import Budget
from understudy.oracles.calibration import Calibration, CalibrationMismatch
from understudy.oracles.published_calibrations import PUBLISHED_CALIBRATIONS
from understudy.oracles.scores import PER_IMAGE, Scores, as_numbers, image_id
from understudy.oracles.threshold import Threshold


def test_fixed_keeps_ties():
    assert Threshold.fixed(0.5).rejected([0.4, 0.5, 0.6]) == [True, False, False]
    assert Threshold.fixed(0.5).rejected(torch.tensor([0.4, 0.5])) == [True, False]


@pytest.mark.parametrize(
    ("fraction", "values", "expected"),
    [
        (0.25, [4, 1, 3, 2, 8, 7, 6, 5], [False, True, False, True, False, False, False, False]),
        (0.0, [1, 2], [False, False]),
        (1.0, [1, 2, 2], [True, True, True]),
        (0.5, [1, 1, 1, 5], [True, True, False, False]),  # of equal scores the first go
        (0.5, [5, 1, 1, 1], [False, True, True, False]),
        (0.5, [2, 2, 2, 2], [True, True, False, False]),
        (0.4, [5, 1, 2, 3], [False, True, True, False]),
        (0.25, [2, 1], [False, True]),  # at least one of two or more
        (0.01, [3, 1, 2], [False, True, False]),
        (0.3, [5], [False]),  # a single image has no worst
        (0.99, [5], [False]),
        (1.0, [5], [True]),  # but this is no worst part
        (0.0, [5], [False]),
        (0.5, [], []),
        (1.0, [], []),
    ],
)
def test_worst_fraction(fraction, values, expected):
    assert Threshold.worst_fraction(fraction).rejected(values) == expected


@pytest.mark.parametrize(
    ("n", "values", "expected"),
    [
        (2, [4, 1, 3, 2], [False, True, False, True]),
        (0, [4, 1], [False, False]),
        (2, [1, 5, 1, 1], [True, False, True, False]),  # of equal scores the first go
        (2, [2, 1], [True, True]),
        (5, [2, 1, 3], [True, True, True]),
        (1, [7], [True]),  # as many as there are: all
        (0, [7], [False]),
        (3, [], []),
    ],
)
def test_worst_n(n, values, expected):
    assert Threshold.worst_n(n).rejected(values) == expected


def test_the_cut_of_the_worst_n_divides_them_from_the_others():
    assert Threshold.worst_n(1).cut([4, 1, 3, 2]) == 2 and Threshold.worst_n(2).cut([4, 1, 3, 2]) == 3
    assert [Threshold.worst_n(n).cut([1, 1, 5]) for n in (0, 1, 3)] == [None] * 3
    assert Threshold.worst_n(2).rule == "the worst 2"


@pytest.mark.parametrize(
    ("fraction", "values", "cut"),
    [
        (0.25, [4, 1, 3, 2], 2),
        (0.5, [1, 1, 1, 5], None),  # equal scores on both sides
        (0.5, [1, 1, 2, 5], 2),
        (0.5, [7], None),
        (0.0, [7, 8], None),
        (1.0, [7, 8], None),
    ],
)
def test_the_cut_of_the_worst_part_is_a_score_that_divides_it_from_the_others(fraction, values, cut):
    threshold = Threshold.worst_fraction(fraction)
    assert threshold.cut(values) == cut
    if cut is not None:
        assert threshold.rejected(values) == [value < cut for value in values]


def test_a_single_image_s_owner_is_told_which_modes_work_for_one():
    told = Threshold.worst_fraction(0.25).remark(1)
    assert "a single image has no worst" in told and "percentile, fixed and budget work for one image" in told
    told = Threshold.worst_n(3).remark(1)
    assert "sends all of one that has no more than 3" in told and told == Threshold.worst_n(3).remark(3)
    whatever = [Threshold.worst_fraction(0.25).remark(2), Threshold.worst_fraction(1).remark(1)]
    assert [*whatever, Threshold.fixed(0.5).remark(1)] == [None] * 3
    assert [Threshold.worst_n(3).remark(4), Threshold.worst_n(0).remark(1)] == [None] * 2


def judged(counts, step=1.0):
    """A calibration by a judge of few different scores: ``counts`` of each, ``step`` apart."""
    values = [step * score for score, count in enumerate(counts) for _ in range(count)]
    return Calibration("judge", {str(i): v for i, v in enumerate(values)}, {}, "oracle", "cats"), values


@pytest.mark.parametrize("step", [1.0, 0.1, 0.7, 1 / 3])
def test_the_share_of_a_judge_of_whole_numbers_is_counted(step):
    calibration, values = judged([4, 10, 26], step)
    for k in range(101):
        threshold = Threshold.percentile(calibration, k)
        sent = sum(threshold.rejected(values)) / len(values)
        assert threshold.expected_fraction == sent and threshold.calibration == "judge"
        assert Threshold.fixed(threshold.value, calibration).expected_fraction == sent
    shares = [Threshold.percentile(calibration, k).expected_fraction for k in (30, 90)]
    assert shares == [0.1, 0.35]
    rule = Threshold.percentile(calibration, 30).rule
    assert rule == f"scores below {step:.3f}, which are 10 % of calibration 'judge' (percentile 30)"


def test_a_score_that_equals_a_percentile_is_kept_to_the_last_bit():
    """0.3 + (0.9 - 0.3) is above 0.9: a percentile that is read so would lie above the scores that it is."""
    values = [0.3] * 31 + [0.9] * 70
    calibration = Calibration("tenths", {str(i): value for i, value in enumerate(values)}, {}, "oracle", "cats")
    assert [sum(Threshold.percentile(calibration, k).rejected(values)) for k in (30, 31, 100)] == [0, 31, 31]


def test_percentile_sends_its_share():
    values = torch.randn(400, generator=torch.Generator().manual_seed(0)).tolist()
    calibration = Calibration("mine", {str(i): v for i, v in enumerate(values)}, {}, "oracle", "cats")
    threshold = Threshold.percentile(calibration, 30)
    assert sum(threshold.rejected(values)) == 120
    assert (threshold.mode, threshold.expected_fraction, threshold.calibration) == ("percentile", 0.3, "mine")
    fixed = Threshold.fixed(threshold.value, calibration)
    assert fixed.expected_fraction == pytest.approx(0.3) and fixed.value == threshold.value


def test_one_image_a_queue_is_decided_as_among_others():
    """By modes whose cut is known beforehand; those of a worst part have none (see the remark)."""
    calibration, values = judged([4, 10, 26])
    budget = Threshold.budget(calibration, Budget(10.0, 4.0, 12.0))
    for threshold in (Threshold.percentile(calibration, 30), Threshold.fixed(1.5), budget):
        together = threshold.rejected(values)
        assert [threshold.rejected([value])[0] for value in values] == together
        assert 0 < sum(together) < len(values) and threshold.remark(1) is None


@pytest.mark.parametrize("threshold", [Threshold.fixed(0), Threshold.worst_fraction(0.5)])
def test_nan_names_the_image(threshold):
    with pytest.raises(OracleError, match="image 3 is not a number"):
        threshold.rejected([1.0, 2.0, math.nan])


def test_impossible_thresholds():
    with pytest.raises(ValueError, match="worst fraction is 1.5; expected 0 to 1"):
        Threshold.worst_fraction(1.5)
    with pytest.raises(ValueError, match="worst n is -1; expected 0 or more images"):
        Threshold.worst_n(-1)
    with pytest.raises(ValueError, match="needs a value; got nan"):
        Threshold.fixed(math.nan)
    with pytest.raises(ValueError, match="'best' is not known; choose one of fixed"):
        Threshold("best")


def test_scores_keep_counts_together():
    Scores((1.0, 2.0), ("a", "b"), None, ("x", "y"), decisions=("kept", "refined"), scores_after=(None, 3.0))
    with pytest.raises(OracleError, match="2 scores but 1 image_ids"):
        Scores((1.0, 2.0), ("a",), None, ("x", "y"))
    with pytest.raises(OracleError, match="2 scores but 3 decisions"):
        Scores((1.0, 2.0), ("a", "b"), None, ("x", "y"), decisions=("kept",) * 3)
    with pytest.raises(OracleError, match="image 2 is not a number"):
        Scores((1.0, math.nan), ("a", "b"), None, ("x", "y"))


def test_an_oracle_s_numbers_are_one_for_each_image():
    assert as_numbers(torch.tensor([0.5, -math.inf]), [3, 7]) == [0.5, -math.inf]
    for given in (torch.zeros(1), torch.zeros(3), torch.zeros(2, 1), torch.tensor(0.5)):
        with pytest.raises(OracleError, match="scores of shape .* for 2 images"):
            as_numbers(given, [3, 7])
    with pytest.raises(OracleError, match="the score of image 8 is not a number"):
        as_numbers(torch.tensor([0.5, math.nan]), [3, 7])


def test_scores_of_some_images_keep_all_that_belongs_to_them():
    scores = Scores(
        values=(1.0, 2.0, 3.0),
        image_ids=("a", "b", "c"),
        oracle="f",
        prompts=("x", "y", "z"),
        settings={"steps": 4},
        decisions=("kept", "refined", "kept"),
        scores_after=(None, 5.0, None),
        family="demo",
    )
    assert scores.of([2, 1]) == Scores(
        (3.0, 2.0), ("c", "b"), "f", ("z", "y"), {"steps": 4}, ("kept", "refined"), (None, 5.0), "demo"
    )
    undecided = Scores((1.0, 2.0), ("a", "b"), None, ("x", "y"))
    assert undecided.of([1]) == Scores((2.0,), ("b",), None, ("y",)), "what is not decided stays so"
    assert undecided.of([]).values == ()
    with pytest.raises(IndexError):
        scores.of([3])


def test_badness_is_the_distance_below_the_threshold_in_the_calibrations_percentiles():
    squares = Calibration("squares", {str(i): i * i / 100 for i in range(101)}, {}, "oracle", "cats")
    threshold = Threshold.percentile(squares, 40)  # a score of 16; below it percentile i scores i * i / 100
    assert threshold.value == pytest.approx(16)
    got = threshold.badness([20.0, 16.0, 9.0, 4.0, 1.0, 0.0, -5.0, 6.5])
    assert got == pytest.approx([0, 0, 1 / 4, 2 / 4, 3 / 4, 1, 1, 1 - 25.49 / 40], abs=1e-4)
    assert threshold.badness([9.0]) == [got[2]], "by its own score alone"
    assert Threshold.percentile(squares, 80).badness([9.0])[0] == pytest.approx(5 / 8), "but by the threshold"
    assert Threshold.fixed(16.0, squares).badness([9.0]) == pytest.approx([1 / 4])


def test_badness_of_equal_scores_and_at_the_ends_of_a_calibration():
    ties = Calibration("ties", {str(i): max(0.0, (i - 10) / 10) for i in range(101)}, {}, "oracle", "cats")
    assert Threshold.percentile(ties, 30).badness([0.0, 1.0, 2.0]) == pytest.approx([1, 1 / 3, 0])
    assert Threshold.percentile(ties, 5).badness([0.0, -1.0]) == [0, 1]  # the cut is the worst score itself
    assert Threshold.fixed(-1.0, ties).badness([-2.0, 0.0]) == [1, 0]
    assert Threshold.fixed(20.0, ties).badness([9.0, 15.0]) == [0, 0]  # no score of the calibration is as high
    bare = Calibration("bare", {}, {}, "o", "p", table=(1.0, 2.0, 3.0), count=None, levels=(10.0, 20.0, 30.0))
    assert Threshold.percentile(bare, 30).badness([0.5, 1.0, 1.5, 2.5]) == pytest.approx([1, 1, 3 / 4, 1 / 4])


@pytest.mark.parametrize("threshold", [Threshold.fixed(0.5), Threshold.worst_fraction(0.25)])
def test_badness_without_a_calibration_is_refused(threshold):
    with pytest.raises(ValueError, match="this threshold .* has none: take one of mode percentile or budget"):
        threshold.badness([0.1])


def test_a_calibration_judges_its_own_oracle_s_scores_alone():
    squares = Calibration("squares", {str(i): i * i / 100 for i in range(101)}, {"steps": 4}, "oracle", "cats")
    for threshold in (Threshold.percentile(squares, 40), Threshold.fixed(16.0, squares)):
        threshold.require_oracle("oracle", "clipscore")
        for other in ("another", None):
            with pytest.raises(CalibrationMismatch, match='calibration .squares. .* oracle was "oracle", is'):
                threshold.require_oracle(other, "clipscore")
    Threshold.fixed(16.0).require_oracle("any", None)
    published = Threshold.percentile(PUBLISHED_CALIBRATIONS["ImageReward, LCM-SDXL at 4 steps (published)"], 30)
    published.require_oracle("any file of it", "imagereward")
    with pytest.raises(CalibrationMismatch, match="oracle was imagereward, is clipscore"):
        published.require_oracle("any", "clipscore")


def test_what_scores_hold_per_image_is_named():
    """Every tuple of Scores is per image, so that a new one cannot be forgotten when they are cut."""
    assert PER_IMAGE == tuple(each.name for each in fields(Scores) if str(each.type).startswith("tuple"))


def test_image_id_is_that_of_the_8_bit_picture():
    image = torch.rand(3, 8, 6, generator=torch.Generator().manual_seed(0)).mul(255).round().div(255)
    assert image_id(image) == image_id(image + 1e-4) == image_id(image.double())
    changed = image.clone()
    changed[0, 0, 0] = (changed[0, 0, 0] + 0.5) % 1
    assert image_id(image) != image_id(changed)
    assert image_id(torch.zeros(3, 2, 8)) != image_id(torch.zeros(3, 8, 2))
    plain = image.mul(255).round().byte().numpy()
    assert image_id(image) == hashlib.sha256(b"(3, 8, 6)" + plain.tobytes()).hexdigest(), "calibrations hold it"
