"""Statistics over seeds: pure functions on long data frames.

A long frame has one row a measured value, in the columns `KEYS`, `metric`, `seed` and `value`.
Spreads are sample standard deviations (n - 1 in the denominator); one value has none. Rows come
out in the order in which their keys first appear.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipelines.base.frames import KEYS
from pipelines.compare.inference import bca_interval, sign_flip_p


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
        pairs in which the method's value is the greater one, low and high: the 95 % BCa interval
        of the mean difference (NaN where n is 1), and p of the sign-flip test, corrected for
        nothing: a description, since only the claims of a study are tested.
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
    inferred = [(*bca_interval(group), sign_flip_p(group)) for _, group in groups["difference"]]
    table[["low", "high", "p"]] = np.array(inferred).reshape(-1, 3)
    return table
