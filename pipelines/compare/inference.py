"""Inference from paired differences: an interval, an exact test, a correction for several tests.

Pure functions of numbers. They assume that the seeds of a study are drawn independently and say
nothing about other data sets, models or recipes: their population is that of the seeds.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

_SEED = 0
_RESAMPLES = 9_999
_FLIPS = 99_999
_EXACT = 20  # pairs: half a million sums
_TOLERANCE = 1e-12  # of the sum of magnitudes; rounding is far below, differences that count above


def bca_interval(differences: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap interval of the mean (Efron 1987).

    Resampling has a fixed seed and sorted differences, so that equal numbers in any order give
    equal intervals. With few differences such an interval is too narrow: of normal ones it covers
    the mean in 74 % of samples of 3, 86 % of 5, 90 % of 8 and 93 % of 20, where 95 % are asked for;
    of skewed ones in less.

    Args:
        differences: shape (n,), finite.

    Returns:
        Its low and high end. Both are NaN where n < 2: one difference has no spread to resample.
        Both are the common value where all are equal: resampling knows no other.

    Raises:
        ValueError: for differences that are not finite numbers in one dimension.
    """
    values = np.sort(_checked(differences))
    if values.size < 2:
        return math.nan, math.nan
    if np.ptp(values) <= _TOLERANCE * np.abs(values).max():
        return float(values[0]), float(values[-1])
    # About the mean and in units of the range: rounding does not depend on the differences' unit.
    centre, spread = values.mean(), np.ptp(values)
    interval = stats.bootstrap(
        ((values - centre) / spread,),
        _rounded_mean,
        n_resamples=_RESAMPLES,
        confidence_level=confidence,
        method="BCa",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return float(centre + spread * interval.low), float(centre + spread * interval.high)


def sign_flip_p(differences: ArrayLike) -> float:
    """Two-sided p of the mean under random signs: Fisher's (1935) and Pitman's (1937) exact test.

    If the two methods do not differ, a pair's difference is as likely with the other sign, given
    its magnitude. p is the share of all 2^n assignments of signs whose mean is at least as far from
    zero as the observed one, ties included. Above 20 pairs it is estimated from 99,999 random
    assignments, the observed one counted in, which keeps it valid (Phipson and Smyth 2010).

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
    if values.size > _EXACT:
        random = np.random.default_rng(_SEED)
        test = stats.permutation_test(
            (values,), np.mean, permutation_type="samples", n_resamples=_FLIPS, rng=random
        )
        return float(test.pvalue)
    # One sign may stay: a flip of all of them leaves the distance from zero as it is.
    sums = values[:1]
    for value in values[1:]:
        sums = np.concatenate([sums + value, sums - value])
    tolerance = _TOLERANCE * np.abs(values).sum()
    return float(np.mean(np.abs(sums) >= abs(values.sum()) - tolerance))


def smallest_p(n: int) -> float:
    """The least p that `sign_flip_p` can give for `n` differences: 2 / 2^n up to 20 of them."""
    return 2 / 2**n if n <= _EXACT else 2 / (_FLIPS + 1)


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


def _rounded_mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Equal means of other values are equal: the bias correction counts those at the observed one.

    Without rounding, differences that repeat (such as many zeros) get an interval by chance.
    """
    return values.mean(axis=axis).round(9)


def _checked(differences: ArrayLike) -> np.ndarray:
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(f"expected finite numbers in one dimension, got {differences!r}")
    return values
