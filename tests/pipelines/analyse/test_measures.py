import math

import pytest

from pipelines.report.measure_table import interval_cell, number, spread_cell, verdict


@pytest.mark.parametrize(
    ("mean", "std", "text"),
    [
        (12.3456, 1.2345, "12.3 ± 1.2"),
        (0.9669, 0.00871, "0.9669 ± 0.0087"),
        (604.93, 15.0, "605 ± 15"),
        (50.0, 0.0, "50 ± 0"),
        (0.123456, math.nan, "0.123"),
        (math.nan, math.nan, "–"),
    ],
)
def test_numbers_have_the_digits_that_their_spread_allows(mean, std, text):
    assert spread_cell(mean, std) == text


def test_signs_and_intervals():
    assert number(1.234, 0.1, signed=True) == "+1.23"
    assert interval_cell(-0.1234, 1.1) == "[-0.1, +1.1]"
    assert interval_cell(math.nan, math.nan) == "–"


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.1, 1, "higher"),
        (-1, -0.1, "lower"),
        (-1, 1, "the interval holds 0, so no difference can be told"),
        (0, 0, "the interval holds 0, so no difference can be told"),
        (math.nan, math.nan, "one pair has no spread, so nothing can be told"),
    ],
)
def test_a_verdict_follows_from_the_interval(low, high, said):
    assert verdict(low, high) == said
