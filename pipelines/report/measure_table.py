"""Measures of single runs as tables and sentences: rounded by their uncertainty, judged by rule.

A section says "higher", "lower" or "yes" by the exact sign-flip test alone, at the level `ALPHA`
after Holm's correction over all that the section answers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipelines.base.frames import KEYS
from pipelines.compare.inference import ALPHA, holm, smallest_p
from pipelines.rendering.numbers import NOTHING, p_value
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


def adjusted(tests: pd.DataFrame, pairs: str = "n") -> pd.DataFrame:
    """Those rows of `tests` that can be answered at all, with the column p_holm: `p` after Holm.

    A test of so few pairs that no p of theirs reaches `ALPHA` is never answered, so it is no part
    of what is corrected for.

    Args:
        tests: with p; all that a section answers.
        pairs: the column that says how many there are.
    """
    enough = tests[np.array([smallest_p(n) <= ALPHA for n in tests[pairs]], bool)]
    return enough.assign(p_holm=holm(enough["p"]))


def verdict(mean: float, p_holm: float, higher: str = "higher", lower: str = "lower") -> str:
    """The direction of a difference that is tested, or why there is none."""
    if math.isnan(p_holm):
        return "too few pairs, so nothing can be told"
    if p_holm > ALPHA or not mean:
        return "no difference can be told"
    return higher if mean > 0 else lower


def difference_sentences(
    paired: pd.DataFrame,
    tests: pd.DataFrame,
    measures: Mapping[str, Measure],
    methods: Mapping[str, str],
    names: Iterable[str],
) -> str:
    """A list in Markdown: of each data set, model, method and measure in `names` the difference.

    Args:
        tests: the rows of `paired` that are answered, from `adjusted`.
    """
    by_place = tests.set_index([*KEYS, "metric"])["p_holm"]
    lines = []
    several = len(paired[["dataset", "model"]].drop_duplicates()) > 1
    for keys, rows in paired.groupby(KEYS, sort=False):
        dataset, model, method = keys
        found = rows.set_index("metric")
        for name in (name for name in names if name in found.index):
            row, measure = found.loc[name], measures[name]
            where = f"{dataset} / {model}: " if several else ""
            pairs = f"{int(row['n'])} paired seed{'s' if row['n'] > 1 else ''}"
            p_holm = by_place.get((*keys, name), math.nan)
            lines.append(
                f"- {where}{methods[method]}, {measure.title}: "
                f"{spread_cell(row['mean_difference'], row['std_difference'], True)}{measure.unit} "
                f"over {pairs}, 95 % interval {interval_cell(row['low'], row['high'])}"
                f"{in_words(p_holm)}: {verdict(row['mean_difference'], p_holm)}."
            )
    return "\n".join(lines)


def in_words(p_holm: float) -> str:
    """What follows an interval in a sentence; nothing where nothing was tested."""
    return "" if math.isnan(p_holm) else f", p = {p_value(p_holm)} after Holm"


def measure_table(
    name: str,
    tables: Mapping[str, pd.DataFrame],
    measures: Mapping[str, Measure],
    methods: Mapping[str, str],
    tests: pd.DataFrame | None = None,
) -> Table | None:
    """All measures of every method with the difference to the baseline; None where there is none.

    Args:
        tables: `summary` and `paired` of `pipelines.analyse`.
        tests: the rows of `paired` that the section answers, from `adjusted`; none without it.
    """
    place = [*KEYS, "metric"]
    data = tables["summary"]
    data = data[data["metric"].isin(list(measures))]
    if data.empty:
        return None
    differences = tables["paired"].drop(columns=["correlation", "p", "p_t"])
    data = data.merge(differences.rename(columns={"n": "pairs"}), on=place, how="left")
    if tests is not None:
        data = data.merge(tests[[*place, "p", "p_holm"]], on=place, how="left")
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
            **({} if tests is None else {"p": p_value(row.p), "p, Holm": p_value(row.p_holm)}),
        }
        for row in data.itertuples()
    ]
    caption = (
        "Mean ± sample standard deviation over seeds; difference to the baseline, paired by seed, "
        "with the 95 % t interval of its mean over seeds. p of the exact sign-flip test, and after "
        f"Holm's correction over the {0 if tests is None else len(tests)} tests by which the text "
        "answers; what has none is described, and its interval is corrected for nothing."
    )
    return Table(name, data, pd.DataFrame(rows), caption)
