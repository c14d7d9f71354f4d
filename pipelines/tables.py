"""The tables of a report: numbers as data first, then the same numbers as Markdown and LaTeX.

Scores are percentages and differences are percentage points, shown with two decimals.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from pipelines.metrics import GROUPS, MULTI_SCALE
from pipelines.statistics import KEYS

COLUMNS = {
    "mIoU": "mIoU",
    "mAcc": "mAcc",
    "aAcc": "aAcc",
    **{f"mIoU/{group}": group for group in GROUPS},
    MULTI_SCALE: "multi-scale",
}
"""Metrics of the comparison table and their headings; that of several scales has a column only in
studies that measure it."""

NOTHING = "–"
"""Stands where there is nothing to show."""


def comparison_table(
    summary: pd.DataFrame, paired: pd.DataFrame, methods: Mapping[str, str]
) -> pd.DataFrame:
    """One row a data set, model and method.

    Args:
        summary, paired: as compare writes them.
        methods: names of the methods to show, with their labels.

    Returns:
        Columns `KEYS`, label, seeds; `<heading>_mean` and `<heading>_std` for each of `COLUMNS`
        (`MULTI_SCALE` where it was measured);
        pairs, wins, `difference_mean`, `difference_std`, `difference_low` and `difference_high`:
        mIoU minus the baseline's, and the 95 % interval of the mean.
    """
    rows = []
    chosen = summary[summary["method"].isin(methods)]
    measured = MULTI_SCALE in set(summary["metric"])
    headings = {m: h for m, h in COLUMNS.items() if measured or m != MULTI_SCALE}
    differences = paired[paired["metric"] == "mIoU"].set_index(KEYS)
    for key, group in chosen.groupby(KEYS, sort=False):
        scores = group.set_index("metric")
        row = dict(zip(KEYS, key, strict=True)) | {"label": methods[key[-1]]}
        row["seeds"] = int(scores.loc["mIoU", "n"])
        for metric, heading in headings.items():
            here = scores.loc[metric] if metric in scores.index else {}
            row[f"{heading}_mean"] = here.get("mean", np.nan)
            row[f"{heading}_std"] = here.get("std", np.nan)
        difference = differences.loc[key] if key in differences.index else {}
        row["pairs"] = difference.get("n", 0)
        row["wins"] = difference.get("wins", 0)
        row["difference_mean"] = difference.get("mean_difference", np.nan)
        row["difference_std"] = difference.get("std_difference", np.nan)
        row["difference_low"] = difference.get("low", np.nan)
        row["difference_high"] = difference.get("high", np.nan)
        rows.append(row)
    scored = [f"{heading}_{end}" for heading in headings.values() for end in ("mean", "std")]
    paired_columns = [
        *("pairs", "wins"),
        *(f"difference_{statistic}" for statistic in ("mean", "std", "low", "high")),
    ]
    table = pd.DataFrame(rows, columns=[*KEYS, "label", "seeds", *scored, *paired_columns])
    return table.astype({"pairs": int, "wins": int})


def per_class_table(
    summary: pd.DataFrame,
    paired: pd.DataFrame,
    methods: Mapping[str, str],
    data: Mapping[str, Mapping],
) -> pd.DataFrame:
    """One row a data set, model and class, from the most to the least frequent class.

    Args:
        data: for each data set the contents of its info.json.

    Returns:
        Columns dataset, model, class, group, train_share (fraction of the labelled training
        pixels), then `<method>_mean` and `<method>_std` of the IoU for each method, then
        `<method>_difference_mean` and `<method>_difference_std` for each method that has a
        paired difference. NaN for a class that the split does not contain.
    """
    rows = []
    for dataset, model in summary[["dataset", "model"]].drop_duplicates().itertuples(index=False):
        info = data[dataset]
        group_of = {name: group for group, members in info["groups"].items() for name in members}
        for name in sorted(info["classes"], key=lambda name: -info["pixel_share"][name]):
            rows.append((dataset, model, name, group_of.get(name), info["pixel_share"][name]))
    table = pd.DataFrame(rows, columns=["dataset", "model", "class", "group", "train_share"])
    index = pd.MultiIndex.from_arrays([table["dataset"], table["model"], "IoU/" + table["class"]])
    for frame, statistics in (
        (summary, {"mean": "mean", "std": "std"}),
        (paired, {"mean_difference": "difference_mean", "std_difference": "difference_std"}),
    ):
        for method in methods:
            values = frame[frame["method"] == method].set_index(["dataset", "model", "metric"])
            if len(values):
                values = values.reindex(index)
                for statistic, suffix in statistics.items():
                    table[f"{method}_{suffix}"] = values[statistic].to_numpy()
    return table


def shown_comparison(table: pd.DataFrame, spread: str = " ± ") -> pd.DataFrame:
    """`comparison_table` as text, mean and deviation in one cell."""
    shown = pd.DataFrame(
        {"data set": table["dataset"], "model": table["model"], "method": table["label"]}
    )
    for heading in _headings(table):
        shown[heading] = _cells(table, heading, spread)
    shown["seeds"] = table["seeds"].astype(str)
    differences = _cells(table, "difference", spread, signed=True)
    shown["mIoU difference"] = [
        difference + ("" if pairs in (0, seeds) else f" ({pairs} pair{'s' * (pairs > 1)})")
        for difference, pairs, seeds in zip(
            differences, table["pairs"], table["seeds"], strict=True
        )
    ]
    shown["95 % interval"] = _intervals(table, "difference_low", "difference_high")
    return shown


def shown_claims(claims: pd.DataFrame, methods: Mapping[str, str]) -> pd.DataFrame:
    """`claims.assess` as text.

    Args:
        methods: labels by name.
    """
    shown = claims[["claim", "dataset", "model", "metric"]].rename(columns={"dataset": "data set"})
    shown["claimed"] = [
        f"{methods[row.method]} {row.direction} than {methods[row.against]}, by {row.margin:.2f}"
        for row in claims.itertuples()
    ]
    shown["pairs"] = [
        f"{row.n}" if row.n == row.pairs else f"{row.n} of {row.pairs}"
        for row in claims.itertuples()
    ]
    differences = zip(claims["mean_difference"], claims["std_difference"], strict=True)
    shown["difference"] = [cell(mean, std, signed=True) for mean, std in differences]
    shown["95 % interval"] = _intervals(claims, "low", "high")
    shown["p"] = [p_value(p) for p in claims["p"]]
    shown["p, Holm"] = [p_value(p) for p in claims["p_holm"]]
    shown["verdict"] = claims["verdict"]
    return shown


def shown_per_class(table: pd.DataFrame, methods: Mapping[str, str]) -> pd.DataFrame:
    """`per_class_table` of one data set and model as text."""
    shown = pd.DataFrame({"class": table["class"], "group": table["group"].fillna(NOTHING)})
    shown["train pixels, %"] = [f"{100 * share:.2f}" for share in table["train_share"]]
    for method, label in methods.items():
        if f"{method}_mean" in table:
            shown[label] = _cells(table, method, " ± ")
    for method, label in methods.items():
        if f"{method}_difference_mean" in table:
            shown[f"{label}, difference"] = _cells(table, f"{method}_difference", " ± ", True)
    return shown


def cell(mean: float, std: float, spread: str = " ± ", signed: bool = False) -> str:
    """A mean with its deviation, without it where there is none, or a dash for no value."""
    if pd.isna(mean):
        return NOTHING
    text = f"{mean:+.2f}" if signed else f"{mean:.2f}"
    return text if pd.isna(std) else f"{text}{spread}{std:.2f}"


def interval(low: float, high: float) -> str:
    """The two ends in brackets, or a dash where there is no interval."""
    return NOTHING if pd.isna(low) else f"[{low:+.2f}, {high:+.2f}]"


def p_value(p: float) -> str:
    """Four decimals, which tell 2/2^n from its neighbours up to 13 pairs, or a dash for no test."""
    if pd.isna(p):
        return NOTHING
    return f"{p:.4f}" if p >= 1e-4 else "< 0.0001"


def markdown(shown: pd.DataFrame) -> str:
    """A Markdown table of text columns; numbers are aligned to the right."""
    escaped = shown.rename(columns=_escape_markdown).map(_escape_markdown)
    names = {"data set", "model", "method", "class", "group", "claim", "metric", "claimed"}
    names |= {"verdict"}
    align = ["left" if name in names else "right" for name in shown.columns]
    text = escaped.to_markdown(index=False, disable_numparse=True, colalign=align)
    return f"{text}\n"


def latex(table: pd.DataFrame) -> str:
    """`comparison_table` as a LaTeX tabular; needs the package booktabs."""
    shown = shown_comparison(table, spread=r" \pm ")
    names = ["data set", "model", "method"]
    styler = shown.style.hide(axis="index")
    styler = styler.format(escape="latex", subset=names).format(_maths, subset=_headings(table))
    styler = styler.format(_maths, subset=["mIoU difference", "95 % interval"])
    styler = styler.format_index(escape="latex", axis="columns")
    return "% \\usepackage{booktabs}\n" + styler.to_latex(
        hrules=True, column_format="l" * len(names) + "r" * (shown.shape[1] - len(names))
    )


def _headings(table: pd.DataFrame) -> list[str]:
    return [heading for heading in COLUMNS.values() if f"{heading}_mean" in table]


def _cells(table: pd.DataFrame, prefix: str, spread: str, signed: bool = False) -> list[str]:
    pairs = zip(table[f"{prefix}_mean"], table[f"{prefix}_std"], strict=True)
    return [cell(mean, std, spread, signed) for mean, std in pairs]


def _intervals(table: pd.DataFrame, low: str, high: str) -> list[str]:
    return [interval(*ends) for ends in zip(table[low], table[high], strict=True)]


def _escape_markdown(text: str) -> str:
    return text.replace("|", r"\|")


def _maths(text: str) -> str:
    if text == NOTHING:
        return "--"
    number, _, note = text.partition(" (")
    return f"${number}$" + (f" ({note}" if note else "")
