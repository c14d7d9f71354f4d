"""Known cases by hand, other implementations, and properties that hold for all numbers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import stats

from pipelines.compare.inference import bca_interval, holm, sign_flip_p, smallest_p

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
    assert sign_flip_p(values + 5) == smallest_p(24) == 2 / 100_000
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


@always_the_same
@given(st.lists(points, min_size=2, max_size=10))
def test_an_interval_lies_among_the_differences(differences):
    low, high = bca_interval(differences)
    slack = 1e-9 * max(1, *map(abs, differences))
    assert min(differences) - slack <= low <= high <= max(differences) + slack


@always_the_same
@given(st.lists(points, min_size=1, max_size=5), points)
def test_an_interval_of_symmetric_data_holds_their_mean(halves, centre):
    low, high = bca_interval([centre + sign * half for half in halves for sign in (-1, 1)])
    assert low - 1e-9 <= centre <= high + 1e-9


@settings(always_the_same, max_examples=30)
@example([0.0, 0.0, 0.0, 1.0], 1.0, 1e-6)  # bootstrap means that equal the mean, but for rounding
@given(st.lists(points, min_size=2, max_size=10), points, st.sampled_from([1e-6, 0.5, 1e3]))
def test_an_interval_moves_and_scales_with_the_data(differences, shift, factor):
    interval = np.array(bca_interval(differences))
    moved = bca_interval((np.array(differences) + shift) * factor)
    assert np.allclose(moved, (interval + shift) * factor, rtol=1e-6, atol=1e-6 * factor)
    assert bca_interval(differences[::-1]) == tuple(interval)


def test_an_interval_shrinks_with_n_and_grows_with_confidence():
    values = np.random.default_rng(0).normal(size=8)

    def width(*arguments):
        low, high = bca_interval(*arguments)
        return high - low

    assert width(np.tile(values, 16)) < width(np.tile(values, 4)) < width(values)
    # Four times the data: half the width, as a standard error.
    assert width(np.tile(values, 16)) == pytest.approx(width(np.tile(values, 4)) / 2, rel=0.1)
    assert width(values, 0.8) < width(values, 0.95) < width(values, 0.99)


def test_an_interval_follows_the_skew_of_the_data():
    values = np.random.default_rng(0).exponential(size=12)
    low, high = bca_interval(values)
    assert high - values.mean() > values.mean() - low
    mirrored = bca_interval(-values)
    assert mirrored == pytest.approx((-high, -low), abs=0.1)


def test_what_has_no_spread_has_no_interval_or_a_point():
    assert all(map(math.isnan, bca_interval([])))
    assert all(map(math.isnan, bca_interval([3.0])))
    assert bca_interval([2.5, 2.5, 2.5]) == (2.5, 2.5)
    assert bca_interval([0.0, 0.0]) == (0.0, 0.0)
    # 0.1 + 0.2 is 0.3 and a rounding error, which is no spread.
    assert bca_interval([0.3, 0.1 + 0.2]) == pytest.approx((0.3, 0.3), abs=1e-12)


def test_no_differences_give_no_p():
    assert math.isnan(sign_flip_p([]))


@pytest.mark.parametrize("function", [bca_interval, sign_flip_p])
@pytest.mark.parametrize("wrong", [[1.0, math.nan], [math.inf, 0.0], [[1.0, 2.0]]])
def test_what_is_no_list_of_numbers_is_an_error(function, wrong):
    with pytest.raises(ValueError, match="expected finite numbers in one dimension"):
        function(wrong)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "coverage"), [(3, 0.74), (8, 0.90), (20, 0.93)])
def test_intervals_cover_as_often_as_the_docstring_says(n, coverage):
    random = np.random.default_rng(0)
    intervals = np.array([bca_interval(random.normal(size=n)) for _ in range(600)])
    covered = (intervals[:, 0] <= 0) & (intervals[:, 1] >= 0)
    # Two standard deviations of that share are 0.02 to 0.04.
    assert covered.mean() == pytest.approx(coverage, abs=0.04)


def test_under_no_difference_p_is_small_as_rarely_as_it_says():
    random = np.random.default_rng(0)
    p = np.array([sign_flip_p(random.normal(size=8)) for _ in range(2000)])
    for alpha in (0.01, 0.05, 0.25):
        assert np.mean(p <= alpha) <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / 2000)
    assert p.mean() == pytest.approx(0.5, abs=0.03)
