"""Compactness by the frequency of the classes: whose pixels come closer together.

Shown in the section on compactness. The pull is a mean over pixels, so frequent classes have most
of it; the mean over classes, which counts each alike, does not tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from pipelines.analyse.long_tail import slope
from pipelines.base.class_groups import GROUPS
from pipelines.base.frames import KEYS
from pipelines.compare.inference import ALPHA
from pipelines.compare.statistics import paired_differences
from pipelines.rendering.numbers import p_value
from pipelines.rendering.parts import Table, Text
from pipelines.report.measure_table import adjusted, in_words, interval_cell, number, spread_cell

_SLOPE = "slope"
_COLUMN = "relative_scatter"


def frequency_table(classes: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Differences of the relative scatter to the baseline, by group of classes, and their slope.

    Args:
        classes: `classes` of `pipelines.analyse`, one row a run and class.

    Returns:
        Columns `KEYS`, measure: a group of classes (mean over its classes) or "slope" (of the
        scatter on log10 of the class's share of the training pixels, a decade); n, baseline and
        mean (of the two methods, over all their runs), mean_difference, std_difference, low, high,
        p, and p_holm of the slopes.
    """
    values = pd.DataFrame(_values(classes), columns=[*KEYS, "seed", "metric", "value"])
    table = paired_differences(values, baseline)
    means = values.groupby([*KEYS, "metric"])["value"].mean().rename("mean")
    table = table.join(means, on=[*KEYS, "metric"])
    own = means.reset_index()
    own = own[own["method"] == baseline].set_index(["dataset", "model", "metric"])["mean"]
    table = table.join(own.rename("baseline"), on=["dataset", "model", "metric"])
    slopes = table[table["metric"] == _SLOPE]
    table = table.join(adjusted(slopes)["p_holm"])
    columns = ["n", "baseline", "mean", "mean_difference", "std_difference", "low", "high", "p"]
    table = table.rename(columns={"metric": "measure"})
    return table[[*KEYS, "measure", *columns, "p_holm"]]


def _values(classes: pd.DataFrame) -> Iterator[tuple]:
    usable = classes[(classes["train_share"] > 0) & classes[_COLUMN].notna()]
    for keys, found in usable.groupby([*KEYS, "seed"], sort=False):
        for group in GROUPS:
            here = found.loc[found["group"] == group, _COLUMN]
            if len(here):
                yield (*keys, group, here.mean())
        share = np.log10(found["train_share"].to_numpy())
        rise = slope(share, found[_COLUMN].to_numpy())
        if np.isfinite(rise):
            yield (*keys, _SLOPE, rise)


def parts(classes: pd.DataFrame, methods: Mapping[str, str], baseline: str) -> list[Text | Table]:
    """What was found, as text and table; nothing where no seed has a method and the baseline."""
    table = frequency_table(classes, baseline)
    if table.empty:
        return []
    several = len(table[["dataset", "model"]].drop_duplicates()) > 1
    lines = []
    for keys, rows in table.groupby(KEYS, sort=False):
        found = rows.set_index("measure")
        where = f"{keys[0]} / {keys[1]}: " if several else ""
        groups = [f"{name} {_change(found.loc[name])}" for name in GROUPS if name in found.index]
        line = f"- {where}{methods[keys[2]]}: {', '.join(groups)}"
        if _SLOPE in found.index:
            row = found.loc[_SLOPE]
            line += (
                f"; slope {spread_cell(row['mean_difference'], row['std_difference'], True)} a "
                f"decade of the share, over {row['n']} pairs, 95 % interval "
                f"{interval_cell(row['low'], row['high'])}{in_words(row['p_holm'])}. "
                + _answer(row["mean_difference"], row["p_holm"])
            )
        lines.append(f"{line}.")
    text = Text(
        "**By class frequency.** Variance within a class over the variance of the class means, "
        f"minus that of {methods[baseline]}, paired by seed. A slope below zero says that "
        "compactness moves from rare to frequent classes:\n\n" + "\n".join(lines)
    )
    return [text, _shown(table, methods)]


def _change(row: pd.Series) -> str:
    change = spread_cell(row["mean_difference"], row["std_difference"], True)
    share = 100 * row["mean_difference"] / row["baseline"]
    return f"{change} ({share:+.0f} %)"


def _answer(slope: float, p_holm: float) -> str:
    if pd.isna(p_holm):
        return "No answer: too few pairs"
    if p_holm > ALPHA:
        return "No answer: no difference by frequency can be told"
    if slope < 0:
        return "Compactness moves from rare to frequent classes"
    return "Compactness moves from frequent to rare classes"


def _shown(table: pd.DataFrame, methods: Mapping[str, str]) -> Table:
    shown = pd.DataFrame(
        [
            {
                "data set": row.dataset,
                "model": row.model,
                "method": methods[row.method],
                "classes": "slope, a decade" if row.measure == _SLOPE else row.measure,
                "pairs": str(row.n),
                "baseline": number(row.baseline, row.std_difference),
                "value": number(row.mean, row.std_difference),
                "difference": spread_cell(row.mean_difference, row.std_difference, True),
                "95 % interval": interval_cell(row.low, row.high),
                "p": p_value(row.p),
                "p, Holm": p_value(row.p_holm),
            }
            for row in table.itertuples()
        ]
    )
    caption = (
        "Variance within a class over the variance of the class means, mean over the classes of a "
        "group, and its slope on log10 of a class's share of the training pixels; difference to "
        "the baseline, paired by seed, mean ± sample standard deviation, 95 % t interval, p of the "
        f"exact sign-flip test. Holm's correction is over the {table['p_holm'].notna().sum()} "
        "slopes by which the text answers; the rest is described."
    )
    return Table("compactness_by_frequency", table, shown, caption)
