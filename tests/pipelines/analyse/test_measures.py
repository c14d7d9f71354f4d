import math

import pandas as pd
import pytest

from pipelines.report.measure_table import (
    adjusted,
    interval_cell,
    number,
    spread_cell,
    verdict,
)


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
    ("mean", "p_holm", "said"),
    [
        (1.0, 0.05, "higher"),
        (-1.0, 0.01, "lower"),
        (1.0, 0.07, "no difference can be told"),
        (0.0, 0.0, "no difference can be told"),
        (1.0, math.nan, "too few pairs, so nothing can be told"),
    ],
)
def test_a_verdict_follows_from_the_test(mean, p_holm, said):
    assert verdict(mean, p_holm) == said


def test_what_could_never_be_answered_is_no_part_of_the_correction():
    tests = pd.DataFrame({"n": [8, 8, 5, 1], "p": [2 / 256, 0.04, 2 / 32, 1.0]})
    found = adjusted(tests)
    assert found.index.tolist() == [0, 1]
    assert found["p_holm"].tolist() == [4 / 256, 0.04]
