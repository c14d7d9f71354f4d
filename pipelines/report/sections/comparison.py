"""The comparison of the methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipelines.base import metric_names
from pipelines.base.frames import KEYS
from pipelines.compare.claims import says_better
from pipelines.drivers.code import predicts
from pipelines.rendering import numbers
from pipelines.rendering.numbers import cells, in_words, intervals
from pipelines.rendering.parts import Section, Table, Text, run_anchor
from pipelines.report.material import KINDS, PAIRED, Material, incomplete, labels
from pipelines.report.sections import forest
from pipelines.study import Study


def comparison_table(
    summary: pd.DataFrame, paired: pd.DataFrame, methods: Mapping[str, str]
) -> pd.DataFrame:
    """One row a data set, model and method.

    Args:
        summary, paired: as compare writes them.
        methods: names of the methods to show, with their labels.

    Returns:
        Columns `KEYS`, label, seeds; `<heading>_mean` and `<heading>_std` for each of
        `metric_names.METRICS` (one that is not always shown only where it was measured) and of the
        subsets of the split that were measured;
        pairs, wins, `difference_mean`, `difference_std`, `difference_low` and `difference_high`:
        mIoU minus the baseline's, and the 95 % interval of the mean; correlation of the pairs.
    """
    rows = []
    chosen = summary[summary["method"].isin(methods)]
    measured = list(dict.fromkeys(summary["metric"]))
    shown = [m for m in metric_names.METRICS if m.always_shown or m.name in measured]
    shown += [_subset(name) for name in measured if _is_of_subset(name)]
    differences = paired[paired["metric"] == "mIoU"].set_index(KEYS)
    for key, group in chosen.groupby(KEYS, sort=False):
        scores = group.set_index("metric")
        row = dict(zip(KEYS, key, strict=True)) | {"label": methods[key[-1]]}
        row["seeds"] = int(scores.loc["mIoU", "n"])
        for metric in shown:
            here = scores.loc[metric.name] if metric.name in scores.index else {}
            row[f"{metric.heading}_mean"] = here.get("mean", np.nan)
            row[f"{metric.heading}_std"] = here.get("std", np.nan)
        difference = differences.loc[key] if key in differences.index else {}
        row["pairs"] = difference.get("n", 0)
        row["wins"] = difference.get("wins", 0)
        row["difference_mean"] = difference.get("mean_difference", np.nan)
        row["difference_std"] = difference.get("std_difference", np.nan)
        row["difference_low"] = difference.get("low", np.nan)
        row["difference_high"] = difference.get("high", np.nan)
        row["correlation"] = difference.get("correlation", np.nan)
        rows.append(row)
    scored = [f"{metric.heading}_{end}" for metric in shown for end in ("mean", "std")]
    paired_columns = [
        *("pairs", "wins"),
        *(f"difference_{statistic}" for statistic in ("mean", "std", "low", "high")),
        "correlation",
    ]
    table = pd.DataFrame(rows, columns=[*KEYS, "label", "seeds", *scored, *paired_columns])
    return table.astype({"pairs": int, "wins": int})


def shown_comparison(table: pd.DataFrame) -> pd.DataFrame:
    """`comparison_table` as text, mean and deviation in one cell."""
    shown = pd.DataFrame(
        {"data set": table["dataset"], "model": table["model"], "method": table["label"]}
    )
    for metric in metrics_of(table):
        shown[metric.heading] = cells(table, metric.heading)
    shown["seeds"] = table["seeds"].astype(str)
    differences = cells(table, "difference", signed=True)
    shown["mIoU difference"] = [
        difference + _pairs_note(pairs, seeds)
        for difference, pairs, seeds in zip(
            differences, table["pairs"], table["seeds"], strict=True
        )
    ]
    shown["95 % interval"] = intervals(table, "difference_low", "difference_high")
    return shown


def _pairs_note(pairs: int, seeds: int) -> str:
    """How many pairs a difference is of, where it is not one for each seed."""
    if pairs in (0, seeds):
        return ""
    return " (1 pair)" if pairs == 1 else f" ({pairs} pairs)"


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
        for metric in metrics_of(table):
            means = panel[f"{metric.heading}_mean"].dropna()
            if len(means) and says_better(
                claims, dataset, model, metric.name, panel.loc[means.idxmax(), "method"]
            ):
                best.add((means.idxmax(), metric.heading))
    return best


def metrics_of(table: pd.DataFrame) -> list[metric_names.Metric]:
    """The metrics that `comparison_table` gave this table."""
    found = [metric for metric in metric_names.METRICS if f"{metric.heading}_mean" in table]
    names = [column.removesuffix("_mean") for column in table if column.endswith("_mean")]
    return found + [_subset(name) for name in names if _is_of_subset(name)]


def _is_of_subset(name: str) -> bool:
    return name.startswith(metric_names.of_subset("")) and metric_names.find(name) is None


def _subset(name: str) -> metric_names.Metric:
    return metric_names.Metric(name, name, ())


def comparison(material: Material) -> Section:
    study, found = material.study, material.comparison
    table = comparison_table(found.summary, found.paired, labels(study, control=False))
    kind, _ = KINDS[study.file.kind]
    lacking = incomplete(study, material.runs)
    caption = (
        f"{lacking + ' ' if lacking else ''}{kind}, study `{study.name}`: scores "
        f"on the {study.file.evaluation.split} split after {_iterations(study)} "
        "iterations, in percent, mean ± sample standard deviation over seeds; "
        f"mIoU {PAIRED}, in points, with the 95 % t interval of its mean. "
        f"{_multi_scale(study)}{_subsets(study, table)}{predicting(study)}"
        f"{'Nothing is judged yet.' if lacking else _tested(study)}"
    )
    shown = compared_table("comparison", table, caption, found.claims)
    compared = [each for each in metrics_of(table) if each.name.startswith("mIoU")]
    drawn = forest.drawing(material, compared)
    sentences = difference_sentences(study, table)
    return Section("Comparison", [shown, *([drawn] if drawn else []), *sentences])


def compared_table(name: str, table: pd.DataFrame, caption: str, claims: pd.DataFrame) -> Table:
    shown = shown_comparison(table)
    own = ["method", *(metric.heading for metric in metrics_of(table))]
    anchors = [
        dict.fromkeys(own, run_anchor(row.dataset, row.model, row.method))
        for row in table.itertuples()
    ]
    return Table(name, table, shown, caption, anchors, strong=winners(table, claims))


def _multi_scale(study: Study) -> str:
    """What the column multi-scale is, where there is one; ends in a space."""
    views = {
        f"scales {', '.join(f'{scale:g}' for scale in views.scales)}"
        + (", each also mirrored" if views.flip else "")
        for run in study.runs
        if (views := run.evaluation.multi_scale) is not None
    }
    if not views:
        return ""
    return (
        "Multi-scale: mIoU of the same weights, class probabilities averaged over "
        f"{'; or '.join(sorted(views))}; all other columns are single-scale. "
    )


def predicting(study: Study) -> str:
    """Which methods predict in another way than the baseline, where any do; ends in a space."""
    found = [
        method.label
        for method in study.file.methods.values()
        if method.plugin is not None and predicts(method.plugin.partition(":")[0])
    ]
    if not found:
        return ""
    return (
        f"{', '.join(found)}: another classifier than the baseline's, so inference differs too and "
        "a difference is not one of training alone. "
    )


def _subsets(study: Study, table: pd.DataFrame) -> str:
    """What the columns of subsets are, where there are any; ends in a space."""
    names = [metric.name for metric in metrics_of(table) if _is_of_subset(metric.name)]
    if not names:
        return ""
    return f"{', '.join(names)}: on those images of the split alone, as the data card says. "


def _iterations(study: Study) -> str:
    """How long the compared methods train: one number, or those of each data set and model."""
    if len(study.iterations) == 1:
        return str(*study.iterations)
    pairs = [(dataset, model) for dataset in study.datasets for model in study.models]
    return ", ".join(
        f"{iterations} ({_places(study, [pair for pair in pairs if pair in here])})"
        for iterations, here in study.iterations.items()
    )


def _places(study: Study, pairs: Sequence[tuple[str, str]]) -> str:
    """Pairs of data set and model in words, whole data sets by their name alone."""
    words = []
    for dataset in study.datasets:
        models = [model for name, model in pairs if name == dataset]
        if len(models) == len(study.models):
            words.append(dataset)
        elif models:
            words.append(f"{dataset} with {', '.join(models)}")
    return "; ".join(words)


def _tested(study: Study) -> str:
    if not study.file.claims:
        return "No significance test is made."
    return (
        "Nothing here is tested but what the study claimed before its runs: see its report. "
        "The best score is bold where such a claim is reproduced."
    )


def difference_sentences(
    study: Study, table: pd.DataFrame, against: str | None = None
) -> list[Text]:
    """One sentence a method, with its numbers and no adjective.

    Args:
        table: as `comparison_table` makes it, of differences to the method `against`; without that,
            to the baseline.
    """
    base = study.file.methods[against or study.file.baseline].label
    several = len(study.datasets) * len(study.models) > 1
    sentences = []
    for row in table[table["pairs"] > 0].itertuples():
        where = f" ({row.dataset}, {row.model})" if several else ""
        difference = numbers.cell(row.difference_mean, row.difference_std, signed=True)
        seeds = "1 seed" if row.pairs == 1 else f"{row.pairs} paired seeds"
        within = in_words(row.difference_low, row.difference_high)
        sentences.append(
            f"{row.label} minus {base}{where}: mIoU {difference} points over {seeds}{within}; "
            f"{row.label} has the higher mIoU in {row.wins} of {row.pairs}{_correlated(row)}."
        )
    return [Text("\n".join(f"- {sentence}" for sentence in sentences))] if sentences else []


def _correlated(row: Any) -> str:
    """How much of the scatter is the seed's: what pairing by seed takes out of a difference."""
    return (
        ""
        if pd.isna(row.correlation)
        else f"; over seeds the two correlate by r = {row.correlation:+.2f}"
    )
