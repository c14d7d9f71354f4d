"""Inference from paired differences: an interval, tests, corrections for several tests.

Pure functions of numbers. They assume that the seeds of a study are drawn independently and say
nothing about other data sets, models or recipes: their population is that of the seeds. How often
intervals cover and tests err is simulated in `benchmarks/coverage.py`.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

ALPHA = 0.05
"""Level of every test, two-sided, after the correction for several of them."""

_SEED = 0
_FLIPS = 99_999
_BLOCKS = 64  # of flips, so that only a part of them stands in memory as floats
_EXACT = 20  # pairs: half a million sums
_TOLERANCE = 1e-12  # of the sum of magnitudes; rounding is far below, differences that count above


def t_interval(differences: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Student's t interval of the mean (Student 1908).

    Args:
        differences: shape (n,), finite.

    Returns:
        Its low and high end. Both are NaN where n < 2: one difference has no spread. Both are the
        common value where all are equal.

    Raises:
        ValueError: for differences that are not finite numbers in one dimension.
    """
    values = _checked(differences)
    if values.size < 2:
        return math.nan, math.nan
    if _all_equal(values):
        return float(values.min()), float(values.max())
    interval = stats.ttest_1samp(values, 0).confidence_interval(confidence)
    return float(interval.low), float(interval.high)


def t_p(differences: ArrayLike) -> float:
    """Two-sided p of Student's t test of a mean of zero, which is below 2 / 2^n for clear effects.

    Returns:
        NaN where there are fewer than two differences or all are equal, but 1 where all are zero.

    Raises:
        ValueError: for differences that are not finite numbers in one dimension.
    """
    values = _checked(differences)
    if values.size < 2:
        return math.nan
    if _all_equal(values):
        return math.nan if values.any() else 1.0
    return float(stats.ttest_1samp(values, 0).pvalue)


def sign_flip_p(differences: ArrayLike) -> float:
    """Two-sided p of the mean under random signs: Fisher's (1935) and Pitman's (1937) exact test.

    If the two methods do not differ, a pair's difference is as likely with the other sign, given
    its magnitude. p is the share of all 2^n assignments of signs whose mean is at least as far from
    zero as the observed one, ties included. Above 20 pairs it is estimated from 99,999 random
    assignments, the observed one counted in, which keeps it valid (Phipson and Smyth 2010). A
    difference of m is tested on the differences less m.

    Args:
        differences: shape (n,), finite.

    Returns:
        From `smallest_p(n)` to 1; NaN where there is no difference at all.

    Raises:
        ValueError: for differences that are not finite numbers in one dimension.
    """
    values = _checked(differences)
    if values.size == 0:
        return math.nan
    limit = abs(values.sum()) - _TOLERANCE * np.abs(values).sum()
    if values.size > _EXACT:
        # Sorted, so that equal numbers in any order meet the same signs.
        magnitudes = np.sort(np.abs(values))
        as_far = sum(
            np.count_nonzero(np.abs(signs @ magnitudes) >= limit)
            for signs in np.array_split(_signs(values.size), _BLOCKS)
        )
        return float((as_far + 1) / (_FLIPS + 1))
    # One sign may stay: a flip of all of them leaves the distance from zero as it is.
    sums = values[:1]
    for value in values[1:]:
        sums = np.concatenate([sums + value, sums - value])
    return float(np.mean(np.abs(sums) >= limit))


@functools.lru_cache(maxsize=2)
def _signs(n: int) -> np.ndarray:
    """Random assignments of signs (flips, n), int8: drawn once for all tests of so many pairs."""
    random = np.random.default_rng(_SEED)
    signs = np.empty((_FLIPS, n), np.int8)
    for block in np.array_split(signs, _BLOCKS):  # views
        block[:] = random.choice(np.array([-1, 1], np.int8), block.shape)
    return signs


def smallest_p(n: int) -> float:
    """The least p that `sign_flip_p` can give for `n` differences: 2 / 2^n up to 20 of them."""
    return 2 / 2**n if n <= _EXACT else 1 / (_FLIPS + 1)


def holm(p_values: ArrayLike) -> np.ndarray:
    """Adjusted p of a family of tests, in their order (Holm 1979).

    To reject where it is at most alpha errs in any of the tests with probability at most alpha,
    however they depend on each other. A test that was not made (NaN) counts as p = 1 and stays NaN.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.arange(p.size, 0, -1) * p[order]
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(stepped))
    return adjusted


def benjamini_hochberg(p_values: ArrayLike) -> np.ndarray:
    """Adjusted p of explored tests, in their order (Benjamini and Hochberg 1995).

    Of those that are at most q, a share of q is expected to be false, where tests are independent
    or depend positively. A test that was not made (NaN) does not count and stays NaN.
    """
    p = np.array(p_values, dtype=np.float64)
    made = ~np.isnan(p)
    p[made] = stats.false_discovery_control(p[made])
    return p


def _all_equal(values: np.ndarray) -> bool:
    """But for rounding, which is no spread."""
    return bool(np.ptp(values) <= _TOLERANCE * np.abs(values).max())


def _checked(differences: ArrayLike) -> np.ndarray:
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(f"expected finite numbers in one dimension, got {differences!r}")
    return values
