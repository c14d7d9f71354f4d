import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress

from pipelines.analyse.long_tail import (
    class_interval,
    intervals_over_classes,
    measures,
    paired_iou,
    slope,
)
from pipelines.report.sections.long_tail import answered, judge

SHARES = {"a": 0.9, "b": 0.09, "c": 0.009, "d": 0.001, "unseen": 0.0}
GROUPS = {"head": 80.0, "mid": 60.0, "tail": 30.0}


def metrics(**iou):
    groups = {name: {"mIoU": value} for name, value in GROUPS.items()}
    return {"IoU": {"unseen": 5.0} | iou, "groups": groups}


def test_ten_points_a_decade():
    x = np.log10([SHARES[name] for name in "abcd"])
    iou = dict(zip("abcd", 90 + 10 * x, strict=True))
    found = measures(metrics(**iou), {"pixel_share": SHARES})
    assert found["long_tail/slope"] == pytest.approx(10)
    assert found["long_tail/slope_without_largest"] == pytest.approx(10)
    assert found["long_tail/tail_minus_head"] == -50
    # The most frequent class decides the one slope and not the other.
    bent = measures(metrics(**iou | {"a": 0.0}), {"pixel_share": SHARES})
    assert bent["long_tail/slope"] < 0
    assert bent["long_tail/slope_without_largest"] == pytest.approx(10)


def test_classes_without_pixels_are_left_out():
    iou = {"a": 80.0, "b": 70.0, "c": 60.0, "d": None}
    found = measures(metrics(**iou), {"pixel_share": SHARES})
    assert found["long_tail/slope"] == pytest.approx(10)
    assert "long_tail/slope_without_largest" not in found


@given(st.lists(st.tuples(st.integers(-50, 0), st.floats(0, 100)), min_size=3, max_size=20))
def test_the_slope_is_scipys_and_linear_in_the_scores(points):
    x, y = np.array(points, float).T
    if len(np.unique(x)) < 3:
        assert np.isnan(slope(x, y))
        return
    assert slope(x, y) == pytest.approx(linregress(x, y).slope, abs=1e-8)
    other = y[::-1]
    assert slope(x, y) - slope(x, other) == pytest.approx(slope(x, y - other), abs=1e-8)


def table(difference):
    """Two seeds of a baseline and a method whose IoU differs by `difference` of log10(share)."""
    rows = []
    for seed in (0, 1):
        for method in ("base", "sar"):
            for name, share in SHARES.items():
                gain = difference(np.log10(share)) if share and method == "sar" else 0.0
                rows.append(("x", "m", method, seed, name, share, 50.0 + seed + gain))
    columns = ["dataset", "model", "method", "seed", "class", "train_share", "iou"]
    return pd.DataFrame(rows, columns=columns)


def test_differences_pair_by_seed_and_leave_out_unseen_classes():
    ((keys, found),) = paired_iou(table(lambda x: -2 * x), "base")
    assert keys == ("x", "m", "sar")
    assert found.shape == (4, 2)
    assert list(found.index.get_level_values("class")) == list("abcd")
    np.testing.assert_allclose(found[0], found[1])


def test_the_interval_over_classes_of_a_line_is_its_slope():
    (row,) = intervals_over_classes(table(lambda x: 1 - 2 * x), "base").itertuples()
    assert (row.pairs, row.classes) == (2, 4)
    np.testing.assert_allclose((row.slope, row.low, row.high), -2)


def test_equal_methods_have_a_slope_of_zero():
    (row,) = intervals_over_classes(table(lambda x: 0), "base").itertuples()
    assert (row.slope, row.low, row.high) == (0, 0, 0)


def test_the_interval_over_classes_covers_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    x = np.linspace(-3, 0, 30)
    covered = 0
    for _ in range(60):
        low, high = class_interval(x, 2 * x + rng.standard_normal(30))
        covered += low <= 2 <= high
    assert 50 <= covered <= 60


@pytest.mark.parametrize(
    ("slope", "rest", "p_holm", "answer"),
    [
        (-2, -3, 0.05, "Yes"),
        (2, 3, 0.01, "No:"),
        (-2, 3, 0.01, "that class decides"),
        (-2, -3, 0.07, "no difference of both"),
        (-2, np.nan, 0.01, "no difference of both"),
        (-2, -3, np.nan, "too few pairs"),
    ],
)
def test_both_slopes_have_to_say_it(slope, rest, p_holm, answer):
    assert answer in judge(slope, rest, p_holm)


def test_the_slope_is_tested_with_and_without_the_largest_class():
    """The greater p counts, and what has no second slope cannot pass."""
    rows = [
        ("a", "slope", 0.01), ("a", "slope_without_largest", 0.06), ("a", "tail_minus_head", 0.03),
        ("b", "slope", 0.01), ("b", "tail", 0.5),
    ]  # fmt: skip
    paired = pd.DataFrame(rows, columns=["method", "metric", "p"]).assign(dataset="x", model="m")
    paired["metric"] = "long_tail/" + paired["metric"]
    found = answered(paired)
    assert found["p"].tolist() == [0.06, 0.03, 1.0]
    assert found["method"].tolist() == ["a", "a", "b"]
