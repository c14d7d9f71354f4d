"""Figures of the analyses: no files are read. Draw and save inside `figures.drawing()`.

Methods have the colours, markers and lines that they have in the other figures. Nothing is painted
behind the axes, so that a page shows through, and shades are those of a method, made translucent.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pipelines.figures import method_style

_GRID = {"color": "0.5", "alpha": 0.3, "linewidth": 0.6}
_FAINT = {"color": "0.5", "alpha": 0.6, "linewidth": 0.8}
_RESAMPLES = 2_000
_SEED = 0


class Panel(NamedTuple):
    metric: str
    title: str


def paired_figure(
    measures: pd.DataFrame, panels: Sequence[Panel], methods: Mapping[str, str]
) -> Figure:
    """A line a seed across the methods; one row a data set and model.

    Args:
        measures: columns dataset, model, method, seed, metric, value.
    """
    rows = list(measures.groupby(["dataset", "model"], sort=False))
    figure, grid = _grid(len(rows), max(len(panels), 1), 3.0, 2.8)
    for line, (key, found) in zip(grid, rows, strict=True):
        for axes, panel in zip(line, panels, strict=False):
            wide = found[found["metric"] == panel.metric].pivot(
                index="seed", columns="method", values="value"
            )
            shown = [name for name in methods if name in wide]
            wide = wide.reindex(columns=shown)
            for values in wide.to_numpy():
                axes.plot(range(len(shown)), values, **_FAINT)
            for place, name in enumerate(shown):
                style = method_style(list(methods).index(name))
                axes.plot(np.full(len(wide), place), wide[name], linestyle="none", **style.marker)
            axes.set_xticks(range(len(shown)), [_wrapped(methods[name], 14) for name in shown])
            axes.set_xlim(-0.4, len(shown) - 0.6)
            axes.set_title(_wrapped(panel.title), loc="left", fontsize=9)
            axes.grid(axis="y", **_GRID)
        line[0].set_ylabel("\n".join(key))
    return figure


def class_figure(
    classes: pd.DataFrame, column: str, label: str, methods: Mapping[str, str]
) -> Figure:
    """`column` of every class, from the most to the least frequent one in training."""
    rows = list(classes.groupby(["dataset", "model"], sort=False))
    number = max(found["class"].nunique() for _, found in rows)
    figure, grid = _grid(len(rows), 1, max(6.5, 1.5 + 0.5 * number), 2.8)
    for (axes,), (key, found) in zip(grid, rows, strict=True):
        order = found.drop_duplicates("class").sort_values("train_share", ascending=False)["class"]
        order = [name for name in order if found.loc[found["class"] == name, column].notna().any()]
        shown = [name for name in methods if name in set(found["method"])]
        step = min(0.22, 0.7 / len(shown))
        for place, name in enumerate(shown):
            groups = found[found["method"] == name].groupby("class")[column]
            mean, std = groups.mean().reindex(order), groups.std().reindex(order).fillna(0)
            _points(
                axes,
                np.arange(len(order)) + step * (place - (len(shown) - 1) / 2),
                mean,
                std,
                list(methods).index(name),
            )
        axes.set_xticks(range(len(order)), order, **_slant(order))
        axes.set_ylabel(_wrapped(label))
        axes.set_ylim(bottom=0)
        axes.set_title(" / ".join(key), loc="left")
        axes.grid(axis="y", **_GRID)
    _legend(figure, methods, set(classes["method"]))
    return figure


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
    figure, grid = _grid(len(differences), 2, 4.2, 3.2)
    for (left, right), (keys, table) in zip(grid, differences, strict=True):
        dataset, model, method = keys
        here = classes[(classes["dataset"] == dataset) & (classes["model"] == model)]
        here = here[(here["train_share"] > 0) & here["iou"].notna()]
        baseline = next(iter(methods))
        for name in (baseline, method):
            groups = here[here["method"] == name].groupby("train_share")["iou"]
            index = list(methods).index(name)
            _points(left, groups.mean().index, groups.mean(), groups.std().fillna(0), index)
        left.set_ylabel("IoU, %")
        left.set_ylim(0, 100)
        left.set_title(f"{dataset} / {model}", loc="left")
        share = table.index.get_level_values("train_share").to_numpy()
        mean, std = table.mean(axis=1), table.std(axis=1).fillna(0)
        index = list(methods).index(method)
        _points(right, share, mean, std, index)
        line, low, high = _band(np.log10(share), table.to_numpy().T)
        colour = method_style(index).line["color"]
        places = np.geomspace(share.min(), share.max(), len(line))
        right.plot(places, line, color=colour, linewidth=1.3)
        right.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
        right.axhline(0, **_FAINT)
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
            axes.grid(**_GRID)
    _legend(figure, methods, {next(iter(methods)), *(keys[2] for keys, _ in differences)})
    return figure


def drift_figure(
    drift: pd.DataFrame, measures: Mapping[str, str], methods: Mapping[str, str]
) -> Figure:
    """A dot a pair of seeds, side by side by method, with their mean."""
    rows = list(drift.groupby(["dataset", "model"], sort=False))
    figure, grid = _grid(len(rows), len(measures), 3.6, 2.8)
    for line, (key, found) in zip(grid, rows, strict=True):
        for axes, (measure, title) in zip(line, measures.items(), strict=True):
            here = found[found["measure"] == measure]
            shown = [name for name in methods if name in set(here["method"])]
            for place, name in enumerate(shown):
                values = np.sort(here.loc[here["method"] == name, "value"].to_numpy())
                # Spread sideways by rank: no chance, and no dot hides another.
                shift = 0.25 * (np.arange(len(values)) * 0.618 % 1 - 0.5)
                style = method_style(list(methods).index(name))
                marker = style.marker | {"markersize": 4, "alpha": 0.6}
                axes.plot(place + shift, values, linestyle="none", **marker)
                axes.hlines(values.mean(), place - 0.3, place + 0.3, color=marker["color"], lw=2)
            axes.set_xticks(range(len(shown)), [_wrapped(methods[name], 14) for name in shown])
            axes.set_xlim(-0.6, len(shown) - 0.4)
            axes.set_ylim(bottom=0)
            axes.set_title(_wrapped(title), loc="left", fontsize=9)
            axes.grid(axis="y", **_GRID)
        line[0].set_ylabel("\n".join(key))
    return figure


def anchor_figure(
    log: pd.DataFrame, curves: Mapping[str, str], methods: Mapping[str, str]
) -> Figure:
    """`curves`, columns of `log`, over the iterations: a faint line a seed, and the mean."""
    rows = list(log.groupby(["dataset", "model"], sort=False))
    figure, grid = _grid(len(rows), len(curves), 2.6, 2.6)
    for line, (key, found) in zip(grid, rows, strict=True):
        for axes, (column, title) in zip(line, curves.items(), strict=True):
            for name in (name for name in methods if name in set(found["method"])):
                here = found[found["method"] == name]
                style = method_style(list(methods).index(name)).line
                if column != "gate":
                    for _, one in here.groupby("seed"):
                        faint = {"color": style["color"], "alpha": 0.25, "linewidth": 0.7}
                        axes.plot(one["iteration"], one[column], **faint)
                mean = here.groupby("iteration")[column].mean()
                axes.plot(mean.index, mean, **style)
            axes.set_ylim(0, 1.05 if column != "lag" else None)
            axes.set_xlim(left=0)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.set_xlabel("iteration")
            axes.set_title(_wrapped(title), loc="left", fontsize=9)
            axes.grid(**_GRID)
        line[0].set_ylabel("\n".join(key))
    _legend(figure, methods, set(log["method"]))
    return figure


def _grid(rows: int, columns: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """A figure with nothing behind its axes, and its axes (rows, columns)."""
    figure = Figure(figsize=(max(width * columns, 4.0), height * rows + 0.4), facecolor="none")
    axes = figure.subplots(rows, columns, squeeze=False)
    for each in axes.flat:
        each.set_facecolor("none")
        each.set_axisbelow(True)
    return figure, axes


def _points(axes: Axes, x: pd.Series, mean: pd.Series, std: pd.Series, index: int) -> None:
    marker = method_style(index).marker
    axes.errorbar(x, mean, yerr=std, linestyle="none", linewidth=1.2, capsize=2.5, **marker)


def _band(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The regression of the mean of y (n, K) on x (K,), and 95 % of those of resampled rows."""
    places = np.linspace(x.min(), x.max(), 50)
    drawn = np.random.default_rng(_SEED).integers(0, len(y), (_RESAMPLES, len(y)))

    def lines(rows: np.ndarray) -> np.ndarray:
        rise, level = np.polyfit(x, rows.T, 1)
        return np.outer(rise, places) + level[:, None]

    low, high = np.percentile(lines(y[drawn].mean(axis=1)), [2.5, 97.5], axis=0)
    return lines(y.mean(axis=0, keepdims=True))[0], low, high


def _legend(figure: Figure, methods: Mapping[str, str], shown: set[str]) -> None:
    names = [name for name in methods if name in shown]
    handles = []
    for name in names:
        style = method_style(list(methods).index(name))
        handles.append(Line2D([], [], **(style.line | style.marker)))
    labels = [methods[name] for name in names]
    figure.legend(handles, labels, loc="outside upper right", ncols=min(len(names), 4))


def _wrapped(text: str, width: int = 26) -> str:
    return textwrap.fill(text, width)


def _slant(names: Sequence[str]) -> dict:
    if max(map(len, names), default=0) <= 10:
        return {}
    return {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
