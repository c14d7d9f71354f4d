"""The differences to the baseline with their intervals, as a forest plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipelines.base import metric_names
from pipelines.rendering.numbers import listed
from pipelines.rendering.parts import Drawing
from pipelines.rendering.style import method_style
from pipelines.report.charts import FAINT, GRID, axes_grid
from pipelines.report.material import Material, labels

_ROW, _WIDTH = 0.23, 4.6
"""Inches: of a row, and of the figure, which has to be read on a phone."""


def drawing(material: Material, metrics: Sequence[metric_names.Metric]) -> Drawing | None:
    """Differences of `metrics`; None where no seed has a method and the baseline."""
    study, paired = material.study, material.comparison.paired
    methods = labels(study, control=False)
    headings = {metric.name: metric.heading for metric in metrics}
    chosen = paired[paired["method"].isin(methods) & paired["metric"].isin(headings)]
    if chosen.empty:
        return None
    others = {name: label for name, label in methods.items() if (chosen["method"] == name).any()}
    base = methods[study.file.baseline]
    return Drawing(
        "differences",
        forest_figure(chosen, headings, methods),
        f"{listed(others)} minus {base}: a point and a 95 % interval for each of "
        f"{', '.join(headings.values())}. The numbers are in the files of the comparison.",
        f"Minus {base}, paired by seed, in points: mean and the 95 % t interval of the mean. Head, "
        "mid and tail are the groups of classes by their share of the training pixels. An interval "
        "is of one difference and corrected for nothing.",
    )


def forest_figure(
    paired: pd.DataFrame, headings: Mapping[str, str], methods: Mapping[str, str]
) -> Figure:
    """One pane a data set and model, a block of rows a metric, a row a method.

    Args:
        paired: as compare writes it.
        headings: of the metrics by name, in order.
        methods: labels of all methods by name, the baseline first.
    """
    panels = list(paired.groupby(["dataset", "model"], sort=False))
    rows = max(len(found) + found["metric"].nunique() for _, found in panels)
    figure, grid = axes_grid(len(panels), 1, _WIDTH, max(1.4, _ROW * rows + 0.5))
    for (axes,), (key, found) in zip(grid, panels, strict=True):
        place, ticks = 0.0, []
        by_row = found.set_index(["metric", "method"])
        for metric, heading in headings.items():
            here = [name for name in methods if (metric, name) in by_row.index]
            if not here:
                continue
            place -= 0.5
            axes.text(
                0.01, place, heading, transform=axes.get_yaxis_transform(), fontsize=8, va="center"
            )
            axes.axhline(place, **(FAINT | {"alpha": 0.15}))
            for name in here:
                place -= 1
                row = by_row.loc[(metric, name)]
                mean = row["mean_difference"]
                spread = np.nan_to_num([[mean - row["low"]], [row["high"] - mean]])
                marker = method_style(list(methods).index(name)).marker
                axes.errorbar(mean, place, xerr=spread, linewidth=1.2, capsize=2.5, **marker)
                ticks.append((place, methods[name]))
            place -= 0.5
        axes.set_yticks([y for y, _ in ticks], [label for _, label in ticks], fontsize=8)
        axes.set_ylim(place - 0.5, 0.2)
        axes.axvline(0, **FAINT)
        axes.set_xlabel("difference, points")
        axes.set_title(" / ".join(key), loc="left")
        axes.grid(axis="x", **GRID)
    return figure
