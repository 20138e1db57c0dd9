"""Scores From List takes numbers of any type, and names an image whose score is none."""

from fractions import Fraction

import pytest
import torch
from understudy.oracles.base import OracleError


@pytest.mark.parametrize(
    ("value", "number"), [(1, 1.0), (True, 1.0), (0.5, 0.5), (torch.tensor([2.5]), 2.5), (Fraction(1, 4), 0.25)]
)
def test_a_number_of_any_type_is_a_score(without_host, value, number):
    from understudy.nodes.scores_from_list import _number

    assert _number(value, 0) == number


@pytest.mark.parametrize("value", [None, [0.1, 0.9], torch.zeros(2), "good", 1j])
def test_what_is_no_number_names_its_image(without_host, value):
    from understudy.nodes.scores_from_list import _number

    with pytest.raises(OracleError, match="the score of image 4 is .*; expected a number"):
        _number(value, 3)
