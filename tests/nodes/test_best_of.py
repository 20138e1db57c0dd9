"""Best Of without a host: its entries, when it stops, and what it says."""

import pytest
import torch
from understudy.nodes.seeds import BatchNoise
from understudy.oracles.calibration import Calibration
from understudy.oracles.threshold import Threshold
from understudy.samplers.best_of import BestOf


@pytest.fixture
def module(without_host):
    from understudy.nodes import best_of

    return best_of


def test_a_threshold_s_value_passes_and_what_is_below_it_does_not(module):
    calibration = Calibration("mine", {}, {}, "", "", table=tuple(range(101)), count=200)
    for threshold in (Threshold.fixed(30.0), Threshold.percentile(calibration, 30)):
        assert module.stop(threshold)(torch.tensor([29.9, 30.0, 31.0])) == [False, True, True]
    assert module.stop(None) is None
    with pytest.raises(ValueError, match=r"^stop_at is .* mode worst_fraction, .* percentile, budget or fixed$"):
        module.stop(Threshold.worst_fraction(0.3))


def test_the_node_says_how_each_image_is_repeated(module):
    whole, alone = BatchNoise(5, 3, None), BatchNoise(634775300809380, 1, None)
    result = BestOf(
        images=[None] * 3,
        scores=torch.tensor([0.5, 0.25, 0.75]),
        tries=torch.tensor([1, 3, 2]),
        chosen=torch.tensor([0, 0, 1]),
        passed=torch.tensor([True, False, True]),
        all_scores=torch.empty(3, 3),
    )
    assert list(module.described(result, [4, 12, 8], [(whole, 0), (whole, 1), (alone, 0)])) == [
        "3 images, 2 passed: 6 tries, 24 network evaluations",
        "1: 0.500, try 1 of 1, seed 5",
        "2: 0.250, try 1 of 3, seed 5 at place 1 of a batch",
        "3: 0.750, try 2 of 2, seed 634775300809380",
    ]
