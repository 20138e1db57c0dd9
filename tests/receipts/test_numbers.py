"""Numbers are short, and say what they count."""

import math

import pytest
from understudy.receipts.numbers import counted, number


@pytest.mark.parametrize(
    "value, text",
    [
        (0.2, "0.200"),
        (-9.9994, "-9.999"),
        (-10.034, "-10.03"),
        (123.456, "123.5"),
        (-98765.4, "-98765"),
        (1.5e12, "1.50e+12"),
        (-math.inf, "-inf"),
        (None, "–"),
    ],
)
def test_a_score_has_four_or_five_digits(value, text):
    assert number(value) == text


def test_a_whole_count_has_no_decimals_whatever_its_type():
    words = "try", "tries"
    assert [counted(count, *words) for count in (1, 1.0, 6.0, 6, 0, 6.5, 12345678.0)] == [
        *("1 try", "1 try", "6 tries", "6 tries", "0 tries", "6.5 tries", "12345678 tries")
    ]
