"""Known cases by hand, other implementations, and properties that hold for all numbers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import stats

from pipelines.compare.inference import (
    benjamini_hochberg,
    holm,
    sign_flip_p,
    smallest_p,
    t_interval,
    t_p,
)

always_the_same = settings(derandomize=True, deadline=None, max_examples=60)

points = st.floats(-100, 100).map(lambda value: round(value, 3))
pairs = st.lists(points, min_size=1, max_size=10)
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1.0], 1.0),
        ([1.0, 2.0], 2 / 4),
        ([1, 2, 3, 4, 5, 6, 7, 8], 2 / 256),
        ([-1, -2, -3, -4, -5, -6, -7, -8], 2 / 256),
        # Sum 34. As far from zero: +1 flipped (34), no sign (36), and both with all signs turned.
        ([-1, 2, 3, 4, 5, 6, 7, 8], 4 / 256),
        # Only the signs all alike reach the sum, whatever the magnitudes.
        ([0.1, 0.1, 1000.0], 2 / 8),
        # A zero has two signs and one sum: twice as many assignments tie.
        ([0.0, 1.0, 1.0], 4 / 8),
        ([1.0, -1.0], 1.0),
        ([0.0, 0.0, 0.0, 0.0], 1.0),
    ],
)
def test_p_by_hand(differences, p):
    assert sign_flip_p(differences) == p


def test_ties_are_counted_despite_rounding():
    # Sum 0.1 of both +0.1 +0.7 -0.7 and +0.1 -0.7 +0.7, in floats only nearly.
    assert sign_flip_p([0.1, 0.7, -0.7]) == 1.0
    # Small sums of large numbers, where a tolerance relative to the sum would be too small.
    large = np.array([33.3, -33.3, 7.7, -7.7, 1e-4])
    assert sign_flip_p(large) == sign_flip_p(large * 3) == 1.0


@always_the_same
@given(pairs)
def test_p_agrees_with_all_assignments_written_out(differences):
    signs = np.array(list(itertools.product([1, -1], repeat=len(differences))))
    # In thousandths, which are whole numbers: no rounding anywhere.
    whole = np.round(np.array(differences) * 1000).astype(int)
    expected = np.mean(np.abs(signs @ whole) >= abs(whole.sum()))
    assert sign_flip_p(differences) == expected


@settings(always_the_same, max_examples=30)
@given(st.lists(points, min_size=2, max_size=8))
def test_p_agrees_with_scipy(differences):
    values = np.array(differences)
    # Where the sum nearly cancels, scipy's tolerance for ties, relative to it, is too small.
    assume(abs(values.sum()) > 1e-2 * np.abs(values).sum())
    test = stats.permutation_test((values,), np.mean, permutation_type="samples")
    assert sign_flip_p(values) == pytest.approx(test.pvalue)


@always_the_same
@given(pairs)
def test_p_lies_between_its_least_value_and_one(differences):
    p = sign_flip_p(differences)
    assert 2 / 2 ** len(differences) == smallest_p(len(differences)) <= p <= 1


@always_the_same
@given(pairs, st.sampled_from([-1, 1e-6, 0.1, 3, 1e6]))
def test_p_knows_no_unit_no_sign_and_no_order(differences, factor):
    p = sign_flip_p(differences)
    assert sign_flip_p(np.array(differences) * factor) == p
    assert sign_flip_p(differences[::-1]) == p


@always_the_same
@given(pairs, st.floats(0, 50))
def test_p_falls_as_all_differences_move_away_from_zero(differences, shift):
    values = np.array(differences)
    assume(values.sum() > 0)
    assert sign_flip_p(values + shift) <= sign_flip_p(values)


def test_many_pairs_are_sampled_and_never_give_zero():
    values = np.random.default_rng(0).normal(size=24)
    assert sign_flip_p(values + 5) == smallest_p(24) == 1 / 100_000
    # Close to the test's limit for many pairs, a normal one of known variance.
    z = abs(values.sum()) / np.sqrt(np.sum(values**2))
    assert sign_flip_p(values) == pytest.approx(2 * stats.norm.sf(z), abs=0.03)
    assert sign_flip_p(values) == sign_flip_p(values)


def test_twenty_pairs_are_exact():
    assert sign_flip_p(np.arange(1, 21)) == 2 / 2**20


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04, the last one raised.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]).tolist() == [1, 1]
    assert holm([0.03]).tolist() == [0.03]
    assert holm([]).size == 0
    assert holm([math.nan, 0.01]) == pytest.approx([math.nan, 0.02], nan_ok=True)


@always_the_same
@given(p_values, st.randoms(use_true_random=False))
def test_holm_keeps_the_order_and_lies_between_p_and_bonferroni(p, random):
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, len(p) * np.array(p))).all()
    by_p = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[by_p]) >= 0).all()
    shuffled = random.sample(range(len(p)), len(p))
    assert holm([p[i] for i in shuffled]).tolist() == adjusted[shuffled].tolist()


@always_the_same
@given(p_values, st.data())
def test_holm_of_a_greater_p_is_never_less(p, data):
    which = data.draw(st.integers(0, len(p) - 1))
    greater = [*p]
    greater[which] = data.draw(st.floats(p[which], 1))
    assert (holm(greater) >= holm(p)).all()


def test_benjamini_hochberg_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4/1, 4/2, 4/3, 4/4, from the largest down the least.
    found = benjamini_hochberg([0.01, 0.04, 0.03, 0.005])
    assert found == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert benjamini_hochberg([]).size == 0
    # A test that was not made does not count: no factor 2.
    found = benjamini_hochberg([math.nan, 0.01])
    assert found == pytest.approx([math.nan, 0.01], nan_ok=True)


@always_the_same
@given(p_values)
def test_benjamini_hochberg_never_corrects_more_than_holm(p):
    adjusted = benjamini_hochberg(p)
    assert (adjusted >= np.array(p) * (1 - 1e-12)).all()
    assert (adjusted <= holm(p) * (1 + 1e-12)).all()


@always_the_same
@given(st.lists(points, min_size=2, max_size=10))
def test_an_interval_is_the_textbook_s_and_holds_the_mean(differences):
    low, high = t_interval(differences)
    n, mean = len(differences), np.mean(differences)
    half = stats.t.ppf(0.975, n - 1) * np.std(differences, ddof=1) / math.sqrt(n)
    slack = 1e-9 * max(1, *map(abs, differences))
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=slack)
    assert low - slack <= mean <= high + slack


@always_the_same
@given(st.lists(points, min_size=2, max_size=10))
def test_the_t_test_rejects_what_its_interval_leaves_out(differences):
    assume(np.ptp(differences) > 1e-3)
    low, high = t_interval(differences)
    assume(min(abs(low), abs(high)) > 1e-9)
    assert (t_p(differences) < 0.05) == (not low <= 0 <= high)


@settings(always_the_same, max_examples=30)
@example([0.0, 0.0, 0.0, 1.0], 1.0, 1e-6)
@given(st.lists(points, min_size=2, max_size=10), points, st.sampled_from([1e-6, 0.5, 1e3]))
def test_an_interval_moves_and_scales_with_the_data(differences, shift, factor):
    interval = np.array(t_interval(differences))
    moved = t_interval((np.array(differences) + shift) * factor)
    assert np.allclose(moved, (interval + shift) * factor, rtol=1e-6, atol=1e-6 * factor)
    assert t_interval(differences[::-1]) == pytest.approx(tuple(interval), rel=1e-9, abs=1e-9)


def test_an_interval_shrinks_with_n_and_grows_with_confidence():
    values = np.random.default_rng(0).normal(size=8)

    def width(*arguments):
        low, high = t_interval(*arguments)
        return high - low

    assert width(np.tile(values, 16)) < width(np.tile(values, 4)) < width(values)
    # Four times the data: half the width, as a standard error.
    assert width(np.tile(values, 16)) == pytest.approx(width(np.tile(values, 4)) / 2, rel=0.1)
    assert width(values, 0.8) < width(values, 0.95) < width(values, 0.99)


def test_what_has_no_spread_has_no_interval_or_a_point():
    assert all(map(math.isnan, t_interval([])))
    assert all(map(math.isnan, t_interval([3.0])))
    assert t_interval([2.5, 2.5, 2.5]) == (2.5, 2.5)
    assert t_interval([0.0, 0.0]) == (0.0, 0.0)
    # 0.1 + 0.2 is 0.3 and a rounding error, which is no spread.
    assert t_interval([0.3, 0.1 + 0.2]) == pytest.approx((0.3, 0.3), abs=1e-12)
    assert t_p([0.0, 0.0]) == 1 and math.isnan(t_p([2.5, 2.5])) and math.isnan(t_p([1.0]))


def test_no_differences_give_no_p():
    assert math.isnan(sign_flip_p([]))


@pytest.mark.parametrize("function", [t_interval, t_p, sign_flip_p])
@pytest.mark.parametrize("wrong", [[1.0, math.nan], [math.inf, 0.0], [[1.0, 2.0]]])
def test_what_is_no_list_of_numbers_is_an_error(function, wrong):
    with pytest.raises(ValueError, match="expected finite numbers in one dimension"):
        function(wrong)


@pytest.mark.parametrize("n", [2, 3, 8, 20])
def test_intervals_of_normal_differences_cover_as_often_as_they_say(n):
    random = np.random.default_rng(0)
    intervals = np.array([t_interval(random.normal(size=n)) for _ in range(2000)])
    covered = (intervals[:, 0] <= 0) & (intervals[:, 1] >= 0)
    # Three standard deviations of that share are 0.015.
    assert covered.mean() == pytest.approx(0.95, abs=0.015)


def test_under_no_difference_p_is_small_as_rarely_as_it_says():
    random = np.random.default_rng(0)
    p = np.array([sign_flip_p(random.normal(size=8)) for _ in range(2000)])
    for alpha in (0.01, 0.05, 0.25):
        assert np.mean(p <= alpha) <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / 2000)
    assert p.mean() == pytest.approx(0.5, abs=0.03)
