"""The tables of a report: numbers as data first, then the same numbers as Markdown and LaTeX.

Scores are percentages and differences are percentage points. What has a deviation is rounded to
that deviation's second significant digit, and nothing is shown with more than two decimals.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

from pipelines.claims import REPRODUCED
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
    shown = {m: h for m, h in COLUMNS.items() if measured or m != MULTI_SCALE}
    differences = paired[paired["metric"] == "mIoU"].set_index(KEYS)
    for key, group in chosen.groupby(KEYS, sort=False):
        scores = group.set_index("metric")
        row = dict(zip(KEYS, key, strict=True)) | {"label": methods[key[-1]]}
        row["seeds"] = int(scores.loc["mIoU", "n"])
        for metric, heading in shown.items():
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
    scored = [f"{heading}_{end}" for heading in shown.values() for end in ("mean", "std")]
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


def shown_comparison(table: pd.DataFrame) -> pd.DataFrame:
    """`comparison_table` as text, mean and deviation in one cell."""
    shown = pd.DataFrame(
        {"data set": table["dataset"], "model": table["model"], "method": table["label"]}
    )
    for heading in headings(table):
        shown[heading] = _cells(table, heading)
    shown["seeds"] = table["seeds"].astype(str)
    differences = _cells(table, "difference", signed=True)
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
    # With all decimals, as the margin that they are held against.
    shown["difference"] = [cell(mean, std, signed=True, decimals=2) for mean, std in differences]
    shown["95 % interval"] = _intervals(claims, "low", "high", decimals=2)
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
            shown[label] = _cells(table, method)
    for method, label in methods.items():
        if f"{method}_difference_mean" in table:
            shown[f"{label}, difference"] = _cells(table, f"{method}_difference", signed=True)
    return shown


def winners(table: pd.DataFrame, claims: pd.DataFrame) -> set[tuple[int, str]]:
    """The best scores of `comparison_table` of which a reproduced claim says that they are better.

    Args:
        claims: from `claims.assess`.

    Returns:
        (number of the row, heading).
    """
    best = set()
    rows = table.reset_index(drop=True)
    for (dataset, model), panel in rows.groupby(["dataset", "model"], sort=False):
        for metric, heading in COLUMNS.items():
            if heading not in headings(table):
                continue
            means = panel[f"{heading}_mean"].dropna()
            if len(means) and _holds(
                claims, dataset, model, metric, panel.loc[means.idxmax(), "method"]
            ):
                best.add((means.idxmax(), heading))
    return best


def class_winners(
    panel: pd.DataFrame, claims: pd.DataFrame, methods: Mapping[str, str]
) -> set[tuple[int, str]]:
    """The same of `per_class_table` of one data set and model: (number of the row, label)."""
    best = set()
    here = [method for method in methods if f"{method}_mean" in panel]
    for number, row in enumerate(panel.to_dict("records")):
        means = {method: row[f"{method}_mean"] for method in here}
        scored = {method: mean for method, mean in means.items() if not pd.isna(mean)}
        winner = max(scored, key=scored.__getitem__, default="")
        if _holds(claims, row["dataset"], row["model"], f"IoU/{row['class']}", winner):
            best.add((number, methods[winner]))
    return best


def _holds(claims: pd.DataFrame, dataset: str, model: str, metric: str, best: str) -> bool:
    """Whether a claim is reproduced by which `best` is better in `metric` than another method."""
    held = claims[
        (claims["verdict"] == REPRODUCED)
        & (claims["dataset"] == dataset)
        & (claims["model"] == model)
        & (claims["metric"] == metric)
    ]
    higher = held["method"].where(held["direction"] == "higher", held["against"])
    return bool((higher == best).any())


def decimals_of(spread: float) -> int:
    """How many decimals a number has whose uncertainty is `spread`: two digits of it, up to 2."""
    if pd.isna(spread) or spread <= 0:
        return 2
    return min(2, max(0, 1 - math.floor(math.log10(spread))))


def cell(mean: float, std: float, signed: bool = False, decimals: int | None = None) -> str:
    """A mean with its deviation, without it where there is none, or a dash for no value.

    Args:
        decimals: as many instead of what the deviation asks for.
    """
    if pd.isna(mean):
        return NOTHING
    places = decimals_of(std) if decimals is None else decimals
    text = f"{mean:{'+' * signed}.{places}f}"
    return text if pd.isna(std) else f"{text} ± {std:.{places}f}"


def interval(low: float, high: float, decimals: int | None = None) -> str:
    """The two ends in brackets, or a dash where there is no interval.

    Args:
        decimals: as many instead of what half the interval's width asks for.
    """
    if pd.isna(low):
        return NOTHING
    places = decimals_of((high - low) / 2) if decimals is None else decimals
    return f"[{low:+.{places}f}, {high:+.{places}f}]"


def p_value(p: float) -> str:
    """Four decimals, which tell 2/2^n from its neighbours up to 13 pairs, or a dash for no test."""
    if pd.isna(p):
        return NOTHING
    return f"{p:.4f}" if p >= 1e-4 else "< 0.0001"


_NAMES = {"data set", "model", "method", "class", "group", "claim", "metric", "claimed", "verdict"}
_NUMBER = re.compile(
    r"(?P<number>(?:< )?[+-]?\d[\d,]*\.?\d*(?:e[+-]?\d+)?(?: ± \d+\.?\d*)?|\[[^\[\]]*\d\])"
    r"(?P<note> .*)?"
)


def numeric(shown: pd.DataFrame) -> list[bool]:
    """For each column of text whether it holds numbers, to be aligned to the right."""
    return [
        name not in _NAMES
        and all(text == NOTHING or _NUMBER.fullmatch(text) for text in shown[name])
        for name in shown.columns
    ]


def markdown(shown: pd.DataFrame, strong: Collection[tuple[int, str]] = ()) -> str:
    """A Markdown table of text columns; numbers are aligned to the right.

    Args:
        strong: cells (number of the row, column) in bold.
    """
    escaped = shown.map(_escape_markdown)
    for row, column in strong:
        escaped.iloc[row, escaped.columns.get_loc(column)] = f"**{escaped[column].iloc[row]}**"
    escaped = escaped.rename(columns=_escape_markdown)
    align = ["right" if number else "left" for number in numeric(shown)]
    text = escaped.to_markdown(index=False, disable_numparse=True, colalign=align)
    return f"{text}\n"


def latex(shown: pd.DataFrame, strong: Collection[tuple[int, str]] = ()) -> str:
    """The same as a LaTeX tabular; needs the package booktabs."""
    numbers = numeric(shown)
    cells = shown.map(_latex)
    for row, column in strong:
        place = row, cells.columns.get_loc(column)
        cells.iloc[place] = rf"{{\boldmath\textbf{{{cells.iloc[place]}}}}}"
    styler = cells.style.hide(axis="index").format_index(_latex_text, axis="columns")
    return "% \\usepackage{booktabs}\n" + styler.to_latex(
        hrules=True, column_format="".join("r" if number else "l" for number in numbers)
    )


def headings(table: pd.DataFrame) -> list[str]:
    """Those of `COLUMNS` that `comparison_table` gave this table."""
    return [heading for heading in COLUMNS.values() if f"{heading}_mean" in table]


def _cells(table: pd.DataFrame, prefix: str, signed: bool = False) -> list[str]:
    pairs = zip(table[f"{prefix}_mean"], table[f"{prefix}_std"], strict=True)
    return [cell(mean, std, signed) for mean, std in pairs]


def _intervals(table: pd.DataFrame, low: str, high: str, decimals: int | None = None) -> list[str]:
    return [interval(*ends, decimals) for ends in zip(table[low], table[high], strict=True)]


def _escape_markdown(text: str) -> str:
    return text.replace("|", r"\|")


def _latex(text: str) -> str:
    """A cell: numbers in maths, all else as it reads."""
    found = _NUMBER.fullmatch(text)
    if not found or text[0] not in "<+-[0123456789":
        return _latex_text(text)
    return f"${found['number'].replace('±', chr(92) + 'pm')}$" + _latex_text(found["note"] or "")


_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "–": "--",
        "−": r"\textminus{}",
        "±": r"\textpm{}",
        "×": r"\texttimes{}",
        "≤": r"$\leq$",
        "≥": r"$\geq$",
    }
)


def _latex_text(text: str) -> str:
    return text.translate(_LATEX)
