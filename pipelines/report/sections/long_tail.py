"""Whom the method helps, by the frequency of the classes, told and drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from pipelines.analyse.long_tail import paired_iou
from pipelines.base.class_groups import GROUPS
from pipelines.base.frames import KEYS
from pipelines.compare.inference import ALPHA
from pipelines.rendering.parts import Drawing, Part, Section, Text
from pipelines.rendering.style import method_style
from pipelines.report.charts import FAINT, GRID, axes_grid, band, legend, points
from pipelines.report.measure_table import (
    Measure,
    adjusted,
    difference_sentences,
    in_words,
    interval_cell,
    measure_table,
)

_DECADE = " points a decade"
_SLOPE, _REST = "long_tail/slope", "long_tail/slope_without_largest"
_TAIL = "long_tail/tail_minus_head"


MEASURES = {
    _SLOPE: Measure("slope of IoU on log10 of the share", "lower", unit=_DECADE),
    _REST: Measure("slope without the most frequent class", "lower", unit=_DECADE),
    **{
        f"long_tail/{group}": Measure(f"{group} mIoU", "higher", unit=" points") for group in GROUPS
    },
    _TAIL: Measure("tail minus head mIoU", "higher", unit=" points"),
}
"""By name in measures.csv."""


def section(
    tables: Mapping[str, pd.DataFrame], methods: Mapping[str, str], baseline: str
) -> Section | None:
    """What was found.

    Args:
        tables: `measures`, `summary`, `paired`, `classes` and `long_tail` of `pipelines.analyse`.
        methods: labels of all methods by name, the baseline first.
    """
    paired = tables["paired"]
    tests = adjusted(answered(paired))
    table = measure_table("long_tail_measures", tables, MEASURES, methods, tests)
    if table is None:
        return None
    answers = _answers(tables, tests, methods)
    sentences = difference_sentences(paired, tests, MEASURES, methods, [_TAIL])
    parts: list[Part] = [
        Text(
            "IoU of each class against its share of the labelled training pixels, one point a "
            "class. A method that helps rare classes more has a slope below that of "
            f"{methods[baseline]}: the difference of the slopes, paired by seed, is below zero.\n\n"
            + (answers or "- No seed has both methods, so nothing can be compared.")
            + f"\n{sentences}"
            + "\n\nThe answer is that of the exact sign-flip test over seeds. The slopes with and "
            "without the most frequent class both have to pass it: the greater p counts.\n\n"
            "The interval over seeds is the main one: seeds were drawn, and the classes are all "
            "that the data set has. It says nothing of other classes; the interval over classes, "
            "which takes them for a random sample, stands beside it. Share and difficulty of a "
            "class cannot be told apart where each class has one share, and an IoU near 100 leaves "
            "no room for a gain; the slope without the most frequent class tells how far that one "
            "point decides."
        )
    ]
    differences = list(paired_iou(tables["classes"], baseline))
    if differences:
        parts.append(
            Drawing(
                "long_tail",
                share_figure(tables["classes"], differences, methods),
                "Left, the IoU of each class and method against the class's share of the training "
                "pixels; right, the paired difference to the baseline with a regression line.",
                "Mean ± sample standard deviation over seeds. The line is the regression of the "
                "mean paired difference on log10 of the share; its band covers 95 % of the lines "
                "when seeds are drawn anew, point by point.",
            )
        )
    return Section("The long tail", [*parts, table])


def answered(paired: pd.DataFrame) -> pd.DataFrame:
    """The rows by which the section answers; p of the slope is the greater one of both slopes."""
    places = paired.set_index([*KEYS, "metric"]).index
    both = pd.Series(paired["p"].to_numpy(), places)
    rest = [(*place[:3], _REST) for place in places]
    greater = np.fmax(both.to_numpy(), both.reindex(rest).fillna(1.0).to_numpy())
    tests = paired.assign(p=np.where(paired["metric"] == _SLOPE, greater, paired["p"]))
    return tests[tests["metric"].isin((_SLOPE, _TAIL))]


def _answers(
    tables: Mapping[str, pd.DataFrame], tests: pd.DataFrame, methods: Mapping[str, str]
) -> str:
    paired = tables["paired"].set_index([*KEYS, "metric"])
    p_holm = tests.set_index([*KEYS, "metric"])["p_holm"]
    lines = []
    for row in tables["long_tail"].itertuples():
        place = (row.dataset, row.model, row.method, _SLOPE)
        if place not in paired.index:
            continue
        slopes, rest = paired.loc[place], _row(paired, (*place[:3], _REST))
        pairs, p = int(slopes["n"]), p_holm.get(place, math.nan)
        lines.append(
            f"- {row.dataset} / {row.model}, {methods[row.method]}: slope "
            f"{slopes['mean_difference']:+.2f}{_DECADE} against the baseline's, over "
            f"{pairs} paired seed{'s' if pairs > 1 else ''}, 95 % interval over seeds "
            f"{interval_cell(slopes['low'], slopes['high'])}, over the {row.classes} classes "
            f"{interval_cell(row.low, row.high)}; without the most frequent class "
            f"{rest['mean_difference']:+.2f}, over seeds "
            f"{interval_cell(rest['low'], rest['high'])}{in_words(p)}. Does it help rare classes "
            f"more? {judge(slopes['mean_difference'], rest['mean_difference'], p)}."
        )
    return "\n".join(lines)


def judge(slope: float, rest: float, p_holm: float) -> str:
    """The answer, by rule: both slopes have to say it, with all classes and without the largest.

    Args:
        slope, rest: mean differences of the slopes.
        p_holm: the greater p of the two, after Holm; NaN where nothing could be tested.
    """
    if math.isnan(p_holm):
        return "No answer: too few pairs"
    if slope * rest < 0:
        return (
            "No answer: the slopes with and without the most frequent class have different "
            "directions, so that class decides"
        )
    if p_holm > ALPHA or math.isnan(rest):
        return "No answer: no difference of both slopes can be told"
    if slope < 0:
        return "Yes: both slopes are below the baseline's"
    return "No: both slopes are above the baseline's, so frequent classes gain more"


def _row(paired: pd.DataFrame, place: tuple) -> Mapping[str, float]:
    """The row at `place`, or NaN where it is missing."""
    if place in paired.index:
        return paired.loc[place]
    return dict.fromkeys(("mean_difference", "low", "high"), math.nan)


def share_figure(
    classes: pd.DataFrame,
    differences: Iterable[tuple[tuple[str, str, str], pd.DataFrame]],
    methods: Mapping[str, str],
) -> Figure:
    """IoU against the share of training pixels, and the paired difference with its regression.

    Args:
        differences: as `long_tail.paired_iou` gives them.
    """
    differences = list(differences)
    figure, grid = axes_grid(len(differences), 2, 4.2, 3.2)
    for (left, right), (keys, table) in zip(grid, differences, strict=True):
        dataset, model, method = keys
        here = classes[(classes["dataset"] == dataset) & (classes["model"] == model)]
        here = here[(here["train_share"] > 0) & here["iou"].notna()]
        baseline = next(iter(methods))
        for name in (baseline, method):
            groups = here[here["method"] == name].groupby("train_share")["iou"]
            index = list(methods).index(name)
            points(left, groups.mean().index, groups.mean(), groups.std().fillna(0), index)
        left.set_ylabel("IoU, %")
        left.set_ylim(0, 100)
        left.set_title(f"{dataset} / {model}", loc="left")
        share = table.index.get_level_values("train_share").to_numpy()
        mean, std = table.mean(axis=1), table.std(axis=1).fillna(0)
        index = list(methods).index(method)
        points(right, share, mean, std, index)
        line, low, high = band(np.log10(share), table.to_numpy().T)
        colour = method_style(index).line["color"]
        places = np.geomspace(share.min(), share.max(), len(line))
        right.plot(places, line, color=colour, linewidth=1.3)
        right.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
        right.axhline(0, **FAINT)
        for name, x, y in zip(table.index.get_level_values("class"), share, mean, strict=True):
            right.annotate(
                name, (x, y), (3, 4), textcoords="offset points", fontsize=7, color="0.5"
            )
        right.set_ylabel("IoU difference, points")
        right.set_title(f"{methods[method]} minus {methods[baseline]}", loc="left")
        for axes in (left, right):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))
            axes.xaxis.set_minor_formatter(lambda *_: "")
            axes.set_xlabel("share of the labelled training pixels")
            axes.grid(**GRID)
    legend(figure, methods, {next(iter(methods)), *(keys[2] for keys, _ in differences)})
    return figure
