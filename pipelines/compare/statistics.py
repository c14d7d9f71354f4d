"""Statistics over seeds: pure functions on long data frames.

A long frame has one row a measured value, in the columns `KEYS`, `metric`, `seed` and `value`.
Spreads are sample standard deviations (n - 1 in the denominator); one value has none. Rows come
out in the order in which their keys first appear.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from pipelines.base.frames import KEYS
from pipelines.compare.inference import sign_flip_p, t_interval, t_p

_MIN_CORRELATED = 3


def summarise(values: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Count, mean and sample standard deviation of `value` in each group of `by`.

    Returns:
        Columns `by`, n, mean, std; std is NaN where n is 1.
    """
    groups = values.groupby(by, sort=False)["value"]
    return groups.agg(n="count", mean="mean", std="std").reset_index()


def paired_differences(values: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Method minus baseline, seed by seed, for every method but the baseline.

    Only seeds that both have enter: pairs share their initial weights and their batches, so the
    spread of the differences leaves out what the seed does to both.

    Returns:
        Columns `KEYS`, metric, n (pairs), mean_difference, std_difference (NaN where n is 1), wins:
        pairs in which the method's value is the greater one, correlation: Pearson's, of the two
        values of a pair (NaN where n < 3 or one of them never changes), low and high: the 95 % t
        interval of the mean difference (NaN where n is 1), p of the exact sign-flip test and p_t of
        the t test, both corrected for nothing: who answers by them corrects.
    """
    place = ["dataset", "model", "metric", "seed"]
    reference = values.loc[values["method"] == baseline, [*place, "value"]]
    others = values[values["method"] != baseline]
    pairs = others.merge(reference, on=place, suffixes=("", "_baseline"), validate="many_to_one")
    pairs["difference"] = pairs["value"] - pairs["value_baseline"]
    pairs["win"] = pairs["difference"] > 0
    groups = pairs.groupby([*KEYS, "metric"], sort=False)
    table = groups.agg(
        n=("difference", "count"),
        mean_difference=("difference", "mean"),
        std_difference=("difference", "std"),
        wins=("win", "sum"),
    ).reset_index()
    inferred = [
        (
            _correlation(group["value"], group["value_baseline"]),
            *t_interval(group["difference"]),
            sign_flip_p(group["difference"]),
            t_p(group["difference"]),
        )
        for _, group in groups
    ]
    columns = ["correlation", "low", "high", "p", "p_t"]
    table[columns] = np.array(inferred).reshape(-1, len(columns))
    return table


def _correlation(a: pd.Series, b: pd.Series) -> float:
    """Pearson's; NaN for fewer than three pairs, of which any two correlate by 1 or -1."""
    if len(a) < _MIN_CORRELATED or not (np.ptp(a) and np.ptp(b)):
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])
