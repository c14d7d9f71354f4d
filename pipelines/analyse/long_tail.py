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

from pipelines.base.frames import KEYS

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
    x, y = np.array(pairs, np.float64).reshape(-1, 2).T
    return x, y


def _slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(r,) slopes of rows (r, n); NaN where all x of a row are equal."""
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    squares = (x * x).sum(axis=1)
    return (x * y).sum(axis=1) / np.where(squares > 1e-12, squares, np.nan)
