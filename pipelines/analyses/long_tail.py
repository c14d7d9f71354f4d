"""Does a method help rare classes more than frequent ones?

IoU of a class against the logarithm of its share of the labelled training pixels. The slope of a
straight line is linear in the IoUs, so the slope of the paired differences is the difference of two
runs' slopes, and pairs by seed as any score does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from pipelines.analyses import charts
from pipelines.analyses.measures import (
    Measure,
    difference_sentences,
    interval_cell,
    measure_table,
)
from pipelines.metrics import GROUPS
from pipelines.sections import Drawing, Part, Section, Text
from pipelines.statistics import KEYS

_DECADE = " points a decade"
MEASURES = {
    "long_tail/slope": Measure("slope of IoU on log10 of the share", "lower", unit=_DECADE),
    "long_tail/slope_without_largest": Measure(
        "slope without the most frequent class", "lower", unit=_DECADE
    ),
    **{
        f"long_tail/{group}": Measure(f"{group} mIoU", "higher", unit=" points") for group in GROUPS
    },
    "long_tail/tail_minus_head": Measure("tail minus head mIoU", "higher", unit=" points"),
}
"""By name in measures.csv."""

_SEED = 0
_RESAMPLES = 9_999
_MIN_CLASSES = 3


def measures(metrics: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, float]:
    """The measures of one run, those of `MEASURES` that it has.

    The slope is that of ordinary least squares, in points of IoU for ten times the training pixels,
    each class one point. Classes without a pixel in the split or in training are left out, and with
    fewer than three there is no slope.

    Args:
        metrics: contents of metrics.json.
        info: contents of the data set's info.json.
    """
    x, y = _points(metrics, info)
    values = {"slope": slope(x, y)}
    if len(x):
        rest = x < x.max()
        values["slope_without_largest"] = slope(x[rest], y[rest])
    groups = {
        name: group["mIoU"]
        for name, group in metrics["groups"].items()
        if group["mIoU"] is not None
    }
    values |= groups
    if {"head", "tail"} <= groups.keys():
        values["tail_minus_head"] = groups["tail"] - groups["head"]
    return {f"long_tail/{name}": value for name, value in values.items() if np.isfinite(value)}


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """Least squares of y on x, each (n,); NaN for fewer than three different x."""
    if len(np.unique(x)) < _MIN_CLASSES:
        return math.nan
    return float(_slopes(x[None], y[None])[0])


def class_interval(x: np.ndarray, y: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the slope when classes are drawn anew, with their x and y in pairs.

    Of Efron 1979. It asks what other classes might have shown, of which those at hand were a random
    sample; NaN for fewer than three different x.
    """
    if len(np.unique(x)) < _MIN_CLASSES:
        return math.nan, math.nan
    drawn = np.random.default_rng(_SEED).integers(0, len(x), (_RESAMPLES, len(x)))
    slopes = _slopes(x[drawn], y[drawn])
    tail = 50 * (1 - confidence)
    low, high = np.nanpercentile(slopes, [tail, 100 - tail])
    return float(low), float(high)


def intervals_over_classes(classes: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """For each method but the baseline the slope of its mean paired difference, over classes.

    Args:
        classes: `classes` of `pipelines.analyse`.

    Returns:
        Columns `KEYS`, pairs, classes, slope, low, high.
    """
    rows = []
    for keys, found in paired_iou(classes, baseline):
        mean = found.mean(axis=1)
        x = np.log10(found.index.get_level_values("train_share").to_numpy())
        row = (*keys, found.shape[1], len(x), slope(x, mean.to_numpy()))
        rows.append((*row, *class_interval(x, mean.to_numpy())))
    return pd.DataFrame(rows, columns=[*KEYS, "pairs", "classes", "slope", "low", "high"])


def paired_iou(
    classes: pd.DataFrame, baseline: str
) -> Iterator[tuple[tuple[str, str, str], pd.DataFrame]]:
    """For each data set, model and method the paired differences of IoU: (keys, table).

    A table has one row a class (index: class, train_share), from the most to the least frequent,
    and one column a seed.
    """
    usable = classes[(classes["train_share"] > 0) & classes["iou"].notna()]
    for (dataset, model), here in usable.groupby(["dataset", "model"], sort=False):
        wide = here.pivot(
            index=["class", "train_share"], columns=["method", "seed"], values="iou"
        ).sort_index(level="train_share", ascending=False)
        methods = [m for m in here["method"].unique() if m != baseline]
        for method in methods:
            if baseline not in wide.columns.get_level_values(0):
                continue
            difference = (wide[method] - wide[baseline]).dropna(axis=1)
            if difference.shape[1]:
                yield (dataset, model, method), difference


def _points(metrics: Mapping[str, Any], info: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """log10 of the share, and the IoU, of the classes that have both."""
    share = info["pixel_share"]
    pairs = [
        (math.log10(share[name]), iou)
        for name, iou in metrics["IoU"].items()
        if iou is not None and share[name] > 0
    ]
    points = np.array(pairs, np.float64).reshape(-1, 2)
    return points[:, 0], points[:, 1]


def _slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(r,) slopes of rows (r, n); NaN where all x of a row are equal."""
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    squares = (x * x).sum(axis=1)
    return (x * y).sum(axis=1) / np.where(squares > 1e-12, squares, np.nan)


def section(
    tables: Mapping[str, pd.DataFrame], methods: Mapping[str, str], baseline: str
) -> Section | None:
    """What was found.

    Args:
        tables: `measures`, `summary`, `paired`, `classes` and `long_tail` of `pipelines.analyse`.
        methods: labels of all methods by name, the baseline first.
    """
    table = measure_table("long_tail_measures", tables, MEASURES, methods)
    if table is None:
        return None
    paired = tables["paired"]
    answers = _answers(tables, methods)
    sentences = difference_sentences(
        paired, MEASURES, methods, baseline, ["long_tail/tail_minus_head"]
    )
    parts: list[Part] = [
        Text(
            "IoU of each class against its share of the labelled training pixels, one point a "
            "class. A method that helps rare classes more has a slope below that of "
            f"{methods[baseline]}: the difference of the slopes, paired by seed, is below zero.\n\n"
            + (answers or "- No seed has both methods, so nothing can be compared.")
            + f"\n{sentences}"
            + "\n\nThe interval over seeds is the main one: seeds were drawn, and the classes are "
            "all that the data set has. It says nothing of other classes; the interval over "
            "classes, which takes them for a random sample, stands beside it. Share and "
            "difficulty of a class cannot be told apart where each class has one share, and an "
            "IoU near 100 leaves no room for a gain; the slope without the most frequent class "
            "tells how far that one point decides."
        )
    ]
    differences = list(paired_iou(tables["classes"], baseline))
    if differences:
        parts.append(
            Drawing(
                "long_tail",
                charts.share_figure(tables["classes"], differences, methods),
                "Left, the IoU of each class and method against the class's share of the training "
                "pixels; right, the paired difference to the baseline with a regression line.",
                "Mean ± sample standard deviation over seeds. The line is the regression of the "
                "mean paired difference on log10 of the share; its band covers 95 % of the lines "
                "when seeds are drawn anew, point by point.",
            )
        )
    return Section("The long tail", [*parts, table])


def _answers(tables: Mapping[str, pd.DataFrame], methods: Mapping[str, str]) -> str:
    paired = tables["paired"].set_index([*KEYS, "metric"])
    lines = []
    for row in tables["long_tail"].itertuples():
        place = (row.dataset, row.model, row.method, "long_tail/slope")
        if place not in paired.index:
            continue
        slopes, rest = paired.loc[place], _row(paired, (*place[:3], f"{place[3]}_without_largest"))
        pairs = int(slopes["n"])
        lines.append(
            f"- {row.dataset} / {row.model}, {methods[row.method]}: slope "
            f"{slopes['mean_difference']:+.2f}{_DECADE} against the baseline's, over "
            f"{pairs} paired seed{'s' if pairs > 1 else ''}, 95 % interval over seeds "
            f"{interval_cell(slopes['low'], slopes['high'])}, over the {row.classes} classes "
            f"{interval_cell(row.low, row.high)}; without the most frequent class "
            f"{rest['mean_difference']:+.2f}, over seeds "
            f"{interval_cell(rest['low'], rest['high'])}. Does it help rare classes more? "
            f"{judge(slopes, rest)}."
        )
    return "\n".join(lines)


def judge(slopes: Mapping[str, float], rest: Mapping[str, float]) -> str:
    """The answer, by rule: both slopes have to say it, with all classes and without the largest.

    Args:
        slopes, rest: `low` and `high` of the difference of the slopes.
    """
    signs = [int(found["low"] > 0) - int(found["high"] < 0) for found in (slopes, rest)]
    if signs == [-1, -1]:
        return "Yes: both slopes are below the baseline's"
    if signs == [1, 1]:
        return "No: both slopes are above the baseline's, so frequent classes gain more"
    if sorted(signs) == [-1, 1]:
        return (
            "No answer: the slopes with and without the most frequent class have different "
            "directions, so that class decides"
        )
    return "No answer: an interval over seeds holds 0, or there is none"


def _row(paired: pd.DataFrame, place: tuple) -> Mapping[str, float]:
    """The row at `place`, or NaN where it is missing."""
    if place in paired.index:
        return paired.loc[place]
    return dict.fromkeys(("mean_difference", "low", "high"), math.nan)
