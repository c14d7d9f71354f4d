"""Cases small enough to compute by hand."""

import math

import pandas as pd
import pytest

from pipelines.base.frames import KEYS
from pipelines.compare.statistics import paired_differences, summarise


def long_frame(*rows):
    """Rows of (method, seed, value) of one data set, model and metric."""
    frame = pd.DataFrame(rows, columns=["method", "seed", "value"])
    return frame.assign(dataset="d", model="m", metric="mIoU")


def test_the_standard_deviation_is_the_sample_s():
    summary = summarise(long_frame(("a", 0, 1.0), ("a", 1, 2.0), ("a", 2, 6.0)), [*KEYS, "metric"])
    row = summary.iloc[0]
    # Deviations -2, -1, 3: squares sum to 14, over n - 1 = 2; the population's would be 2.16.
    assert (row["n"], row["mean"]) == (3, 3.0)
    assert row["std"] == pytest.approx(math.sqrt(7))


def test_one_seed_has_no_spread():
    row = summarise(long_frame(("a", 0, 5.0)), [*KEYS, "metric"]).iloc[0]
    assert row["mean"] == 5.0 and math.isnan(row["std"])


def test_groups_come_out_in_the_order_they_came_in():
    summary = summarise(long_frame(("z", 0, 1.0), ("a", 0, 2.0), ("z", 1, 3.0)), ["method"])
    assert summary["method"].tolist() == ["z", "a"]


def test_differences_are_paired_by_seed_whatever_the_order():
    values = long_frame(
        ("sar", 2, 35.0), ("base", 0, 10.0), ("sar", 0, 12.0), ("sar", 1, 19.0),
        ("base", 1, 20.0), ("base", 2, 30.0),
    )  # fmt: skip
    row = paired_differences(values, "base").iloc[0]
    # Differences 5, 2, -1: mean 2, deviations 3, 0, -3.
    assert (row["method"], row["n"], row["wins"]) == ("sar", 3, 2)
    assert row["mean_difference"] == pytest.approx(2.0)
    assert row["std_difference"] == pytest.approx(3.0)


def test_differences_come_with_their_interval_and_p():
    values = long_frame(
        *(("base", seed, 10.0) for seed in range(4)),
        *(("sar", seed, 10.0 + seed) for seed in range(1, 4)),
        *(("other", seed, 12.0) for seed in range(1)),
    )
    sar, other = paired_differences(values, "base").itertuples()
    # Differences 1, 2, 3: of 8 signs, only all of one kind give as large a mean.
    assert sar.p == 2 / 8
    # Standard error 1 / sqrt(3), t of 0.975 with 2 degrees of freedom 4.303.
    half = 4.30265 / math.sqrt(3)
    assert (sar.low, sar.high) == pytest.approx((2 - half, 2 + half), rel=1e-5)
    # t = 2 sqrt(3); with 2 degrees of freedom p = 1 - t / sqrt(2 + t^2).
    assert sar.p_t == pytest.approx(1 - math.sqrt(12 / 14))
    assert other.p == 1
    assert all(math.isnan(value) for value in (other.low, other.high, other.p_t))


def test_pairs_come_with_their_correlation():
    values = long_frame(
        *(("base", seed, value) for seed, value in enumerate([1.0, 2.0, 4.0])),
        *(("same", seed, value) for seed, value in enumerate([6.0, 7.0, 9.0])),
        *(("turned", seed, value) for seed, value in enumerate([3.0, 2.0, 0.0])),
        *(("constant", seed, 5.0) for seed in range(3)),
        *(("two", seed, value) for seed, value in enumerate([0.0, 1.0])),
    )
    found = paired_differences(values, "base").set_index("method")["correlation"]
    assert found[["same", "turned"]].tolist() == pytest.approx([1, -1])
    # Any two pairs lie on a line.
    assert found[["constant", "two"]].isna().all()


def test_only_common_seeds_are_paired():
    values = long_frame(("base", 0, 10.0), ("base", 1, 90.0), ("sar", 0, 11.0), ("sar", 2, 0.0))
    row = paired_differences(values, "base").iloc[0]
    assert (row["n"], row["mean_difference"], row["wins"]) == (1, 1.0, 1)
    assert math.isnan(row["std_difference"])


def test_a_tie_is_no_win():
    values = long_frame(("base", 0, 10.0), ("sar", 0, 10.0))
    assert paired_differences(values, "base").iloc[0]["wins"] == 0


def test_without_another_method_there_is_no_difference():
    differences = paired_differences(long_frame(("base", 0, 10.0)), "base")
    assert differences.empty
    assert {"n", "mean_difference", "std_difference", "wins"} < set(differences)
    assert {"correlation", "low", "high", "p", "p_t"} < set(differences)
