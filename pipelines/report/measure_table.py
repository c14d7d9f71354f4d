"""Measures of single runs as tables and sentences: rounded by their uncertainty, judged by rule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from pipelines.base.frames import KEYS
from pipelines.rendering.numbers import NOTHING
from pipelines.rendering.parts import Table


@dataclass(frozen=True)
class Measure:
    """What a number of a run is called and how it is read."""

    title: str
    better: str | None
    """The direction of what the paper claims: "higher", "lower", or None for neither."""
    free: bool = False
    """Whether it is free of the features' scale."""
    unit: str = ""

    @property
    def heading(self) -> str:
        """The title with its unit."""
        unit = f", {self.unit.strip()}" if self.unit else ""
        return f"{self.title}{unit}{' (free of scale)' if self.free else ''}"


def number(value: float, spread: float | None = None, signed: bool = False) -> str:
    """`value` to the second digit of `spread`, or with three digits where there is no spread."""
    if not math.isfinite(value):
        return NOTHING
    if not spread or not math.isfinite(spread):
        return f"{value:+.3g}" if signed else f"{value:.3g}"
    decimals = min(max(1 - math.floor(math.log10(abs(spread))), 0), 6)
    return f"{value:+.{decimals}f}" if signed else f"{value:.{decimals}f}"


def spread_cell(mean: float, std: float, signed: bool = False) -> str:
    """Mean ± sample standard deviation; without it where there is none."""
    text = number(mean, std, signed)
    return text if text == NOTHING or not math.isfinite(std) else f"{text} ± {number(std, std)}"


def interval_cell(low: float, high: float) -> str:
    """Both ends, as precise as their distance tells."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return NOTHING
    return f"[{number(low, high - low, True)}, {number(high, high - low, True)}]"


def verdict(low: float, high: float, higher: str = "higher", lower: str = "lower") -> str:
    """The direction of a difference whose interval leaves 0 out; else that none can be told."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "one pair has no spread, so nothing can be told"
    if low > 0:
        return higher
    if high < 0:
        return lower
    return "the interval holds 0, so no difference can be told"


def difference_sentences(
    paired: pd.DataFrame,
    measures: Mapping[str, Measure],
    methods: Mapping[str, str],
    baseline: str,
    names: Iterable[str],
) -> str:
    """A list in Markdown: of each data set, model, method and measure in `names` the difference."""
    lines = []
    several = len(paired[["dataset", "model"]].drop_duplicates()) > 1
    for keys, rows in paired.groupby(KEYS, sort=False):
        dataset, model, method = keys
        found = rows.set_index("metric")
        for name in (name for name in names if name in found.index):
            row, measure = found.loc[name], measures[name]
            where = f"{dataset} / {model}: " if several else ""
            pairs = f"{int(row['n'])} paired seed{'s' if row['n'] > 1 else ''}"
            lines.append(
                f"- {where}{methods[method]}, {measure.title}: "
                f"{spread_cell(row['mean_difference'], row['std_difference'], True)}{measure.unit} "
                f"over {pairs}, 95 % interval {interval_cell(row['low'], row['high'])}: "
                f"{verdict(row['low'], row['high'])}."
            )
    return "\n".join(lines)


def measure_table(
    name: str,
    tables: Mapping[str, pd.DataFrame],
    measures: Mapping[str, Measure],
    methods: Mapping[str, str],
) -> Table | None:
    """All measures of every method with the difference to the baseline; None where there is none.

    Args:
        tables: `summary` and `paired` of `pipelines.analyse`.
    """
    place = [*KEYS, "metric"]
    data = tables["summary"]
    data = data[data["metric"].isin(list(measures))]
    if data.empty:
        return None
    differences = tables["paired"].drop(columns="p").rename(columns={"n": "pairs"})
    data = data.merge(differences, on=place, how="left")
    order = {metric: index for index, metric in enumerate(measures)}
    data = data.sort_values(
        "metric", key=lambda names: names.map(order), kind="stable", ignore_index=True
    )
    data["title"] = [measures[metric].heading for metric in data["metric"]]
    data["label"] = data["method"].map(methods)
    rows = [
        {
            "data set": row.dataset,
            "model": row.model,
            "measure": row.title,
            "method": row.label,
            "seeds": str(row.n),
            "value": spread_cell(row.mean, row.std),
            "difference": spread_cell(row.mean_difference, row.std_difference, True),
            "95 % interval": interval_cell(row.low, row.high),
        }
        for row in data.itertuples()
    ]
    caption = (
        "Mean ± sample standard deviation over seeds; difference to the baseline, paired by seed, "
        "with the 95 % BCa bootstrap interval of its mean over seeds. Not tested, and not "
        "corrected for the number of measures."
    )
    return Table(name, data, pd.DataFrame(rows), caption)
