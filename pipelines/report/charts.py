"""Figures of the analyses: no files are read. Draw and save inside `style.drawing()`.

Methods have the colours, markers and lines that they have in the other figures. Nothing is painted
behind the axes, so that a page shows through, and shades are those of a method, made translucent.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from pipelines.rendering.style import method_style

GRID = {"color": "0.5", "alpha": 0.3, "linewidth": 0.6}


FAINT = {"color": "0.5", "alpha": 0.6, "linewidth": 0.8}


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
    figure, grid = axes_grid(len(rows), max(len(panels), 1), 3.0, 2.8)
    for line, (key, found) in zip(grid, rows, strict=True):
        for axes, panel in zip(line, panels, strict=False):
            wide = found[found["metric"] == panel.metric].pivot(
                index="seed", columns="method", values="value"
            )
            shown = [name for name in methods if name in wide]
            wide = wide.reindex(columns=shown)
            for values in wide.to_numpy():
                axes.plot(range(len(shown)), values, **FAINT)
            for place, name in enumerate(shown):
                style = method_style(list(methods).index(name))
                axes.plot(np.full(len(wide), place), wide[name], linestyle="none", **style.marker)
            axes.set_xticks(range(len(shown)), [wrapped(methods[name], 14) for name in shown])
            axes.set_xlim(-0.4, len(shown) - 0.6)
            axes.set_title(wrapped(panel.title), loc="left", fontsize=9)
            axes.grid(axis="y", **GRID)
        line[0].set_ylabel("\n".join(key))
    return figure


def axes_grid(rows: int, columns: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """A figure with nothing behind its axes, and its axes (rows, columns)."""
    figure = Figure(figsize=(max(width * columns, 4.0), height * rows + 0.4), facecolor="none")
    axes = figure.subplots(rows, columns, squeeze=False)
    for each in axes.flat:
        each.set_facecolor("none")
        each.set_axisbelow(True)
    return figure, axes


def points(axes: Axes, x: ArrayLike, mean: ArrayLike, std: ArrayLike, index: int) -> None:
    marker = method_style(index).marker
    axes.errorbar(x, mean, yerr=std, linestyle="none", linewidth=1.2, capsize=2.5, **marker)


def band(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The regression of the mean of y (n, K) on x (K,), and 95 % of those of resampled rows."""
    places = np.linspace(x.min(), x.max(), 50)
    drawn = np.random.default_rng(_SEED).integers(0, len(y), (_RESAMPLES, len(y)))

    def lines(rows: np.ndarray) -> np.ndarray:
        rise, level = np.polyfit(x, rows.T, 1)
        return np.outer(rise, places) + level[:, None]

    low, high = np.percentile(lines(y[drawn].mean(axis=1)), [2.5, 97.5], axis=0)
    return lines(y.mean(axis=0, keepdims=True))[0], low, high


def legend(figure: Figure, methods: Mapping[str, str], shown: set[str]) -> None:
    names = [name for name in methods if name in shown]
    handles = []
    for name in names:
        style = method_style(list(methods).index(name))
        handles.append(Line2D([], [], **(style.line | style.marker)))
    labels = [methods[name] for name in names]
    figure.legend(handles, labels, loc="outside upper right", ncols=min(len(names), 4))


def wrapped(text: str, width: int = 26) -> str:
    return textwrap.fill(text, width)


def slant(names: Sequence[str]) -> dict:
    if max(map(len, names), default=0) <= 10:
        return {}
    return {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
