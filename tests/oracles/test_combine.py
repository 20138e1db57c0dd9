"""Two oracles as one: percentiles, weights, vetoes."""

import pytest
import torch
from understudy.oracles.base import Oracle
from understudy.oracles.calibration import Calibration, CalibrationError, CalibrationMismatch
from understudy.oracles.combine import CombinedOracle, Part
from understudy.oracles.published_calibrations import PUBLISHED_CALIBRATIONS

IMAGES = torch.zeros(3, 3, 4, 4)
PROMPTS = ["a", "b", "c"]
LCM = "ImageReward, LCM-SDXL at 4 steps (published)"


class Fixed:
    def __init__(self, family, scores):
        self.family, self.fingerprint, self.scores = family, family * 4, torch.tensor(scores)

    def remarks(self, prompts):
        return [f"{self.family} read {len(prompts)}"]

    def __call__(self, images, prompts, places=None):
        self.places = places
        return self.scores


def table(oracle, low, high, settings=None):
    """A calibration under which scores from ``low`` to ``high`` are evenly spread."""
    values = tuple(low + (high - low) * k / 100 for k in range(101))
    return Calibration(oracle.family, {}, settings or {}, oracle.fingerprint, "", table=values, count=500)


@pytest.fixture
def two():
    return Fixed("clip", [20.0, 25.0, 30.0]), Fixed("reward", [1.0, -1.0, 0.0])


def combined(two, weights=(1, 1), vetoes=(0, 0)):
    tables = table(two[0], 20, 30), table(two[1], -1, 1)
    return CombinedOracle([Part(*part) for part in zip(two, tables, weights, vetoes, strict=True)])


def test_the_mean_is_of_percentiles(two):
    assert combined(two)(IMAGES, PROMPTS).tolist() == pytest.approx([50, 25, 75])
    assert combined(two, (3, 1))(IMAGES, PROMPTS).tolist() == pytest.approx([25, 37.5, 87.5])
    assert combined(two, (0, 2))(IMAGES, PROMPTS).tolist() == pytest.approx([100, 0, 50])


def test_both_oracles_know_the_places_of_the_images(two):
    CombinedOracle([Part(combined(two), None)])(IMAGES, PROMPTS, [7, 8, 4])
    assert two[0].places == two[1].places == [7, 8, 4]


def test_units_do_not_matter(two):
    scaled = two[0], Fixed("reward", [1000.0, -1000.0, 0.0])
    other = CombinedOracle([Part(two[0], table(two[0], 20, 30)), Part(scaled[1], table(scaled[1], -1000, 1000))])
    assert torch.allclose(other(IMAGES, PROMPTS), combined(two)(IMAGES, PROMPTS))


def test_a_veto_puts_an_image_below_every_other(two):
    scores = combined(two, (1, 1), (0, 10))(IMAGES, PROMPTS).tolist()
    assert scores == pytest.approx([50, -76, 75])
    assert combined(two, (1, 0), (10, 0))(IMAGES, PROMPTS).tolist() == pytest.approx([-101, 50, 100])


def test_the_best_vetoed_image_is_below_the_worst_other():
    # The first is the best by the oracle that has all the weight; the last the worst by that, and not vetoed.
    first, second = Fixed("clip", [30.0, 20.0]), Fixed("reward", [-1.0, -0.5])
    parts = [Part(first, table(first, 20, 30)), Part(second, table(second, -1, 1), weight=0, veto=10)]
    scores = CombinedOracle(parts)(IMAGES[:2], PROMPTS[:2]).tolist()
    assert scores[0] < 0 == scores[1]


@pytest.mark.parametrize("weights", [(1, 1), (1, 100), (0, 1)])
def test_a_veto_survives_another_combination(two, weights):
    inner = combined(two, (1, 1), (0, 10))
    third = Fixed("pick", [0.0, 2.0, 1.0])
    outer = CombinedOracle([Part(inner, None, weights[0]), Part(third, table(third, 0, 2), weights[1])])
    twice = CombinedOracle([Part(outer, None), Part(third, table(third, 0, 2))])
    for oracle in (outer, twice):
        kept, vetoed, other = oracle(IMAGES, PROMPTS).tolist()
        assert vetoed < 0 <= min(kept, other)
    mean = (weights[0] * 25 + weights[1] * 100) / sum(weights)
    assert outer(IMAGES, PROMPTS)[1] == pytest.approx(mean - 101, abs=1e-4)


def test_a_combination_combines_again(two):
    first = combined(two)
    third = Fixed("pick", [0.0, 1.0, 2.0])
    both = CombinedOracle([Part(first, None, 2), Part(third, table(third, 0, 2), 1)])
    assert both(IMAGES, PROMPTS).tolist() == pytest.approx([100 / 3, (2 * 25 + 50) / 3, (150 + 100) / 3])
    assert both.remarks(PROMPTS) == ["clip read 3", "reward read 3", "pick read 3"]
    assert both.fingerprint != first.fingerprint != combined(two, (2, 1)).fingerprint


def test_what_the_oracles_remark_alike_is_told_once(two):
    for oracle in two:
        oracle.remarks = lambda prompts, oracle=oracle: Oracle.remarks(oracle, prompts)
        oracle.token_limit, oracle.token_count = lambda: 3, len
    assert combined(two).remarks(["", "abc"]) == ["an empty prompt is scored as an empty text, which says little"]
    assert len(combined(two).remarks(["abcd"])) == 2, "each oracle cuts at a length of its own"


def test_a_calibration_that_grew_makes_another_oracle(two):
    def grown(count):
        calibration = Calibration("c", {str(i): float(i) for i in range(count)}, {}, two[0].fingerprint, "")
        return CombinedOracle([Part(two[0], calibration)]).fingerprint

    assert grown(30) == grown(30) != grown(31)


def test_calibrations_are_held_to_their_oracle_and_settings(two):
    with pytest.raises(CalibrationMismatch, match="oracle was"):
        Part(two[0], table(two[1], 0, 1))
    with pytest.raises(CalibrationError, match="clip needs a calibration"):
        Part(two[0], None)
    with pytest.raises(CalibrationMismatch, match="oracle was imagereward, is clip"):
        Part(two[0], PUBLISHED_CALIBRATIONS[LCM])
    with pytest.raises(CalibrationError, match="known from 10 to 90 %; got percentile 5"):
        Part(Fixed("imagereward", [0.0]), PUBLISHED_CALIBRATIONS[LCM], veto=5)
    published = CombinedOracle([Part(Fixed("imagereward", [0.1546]), PUBLISHED_CALIBRATIONS[LCM], veto=30)])
    published.require({"KSampler.steps": 4})
    assert published(IMAGES[:1], PROMPTS[:1]).tolist() == pytest.approx([30])
    four = CombinedOracle([Part(two[0], table(two[0], 0, 1, {"steps": 4}))])
    four.require({"steps": 4})
    nested = CombinedOracle([Part(four, None)])
    for oracle in (four, nested):
        with pytest.raises(CalibrationMismatch, match="steps was 4, is 8"):
            oracle.require({"steps": 8})


def test_too_few_scores_are_refused_before_any_image_is_scored(two):
    few = Calibration("few", {str(i): float(i) for i in range(19)}, {}, two[0].fingerprint, "")
    with pytest.raises(CalibrationError, match="'few' has 19 scores; percentiles need at least 20"):
        Part(two[0], few)


@pytest.mark.parametrize(
    ("weight", "veto", "message"),
    [(-1, 0, "weight of clip is -1"), (float("nan"), 0, "weight of clip is nan"), (1, 101, "veto of clip is 101")],
)
def test_wrong_numbers_are_refused(two, weight, veto, message):
    with pytest.raises(ValueError, match=message):
        Part(two[0], table(two[0], 0, 1), weight, veto)


def test_no_weight_at_all_is_refused(two):
    with pytest.raises(ValueError, match="all weights are 0"):
        combined(two, (0, 0))
