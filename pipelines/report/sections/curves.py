"""The training curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from pipelines.rendering.numbers import listed
from pipelines.rendering.parts import Drawing, Section
from pipelines.rendering.style import MARKERS, legend, line_style
from pipelines.report.material import Material, labels

CURVES = {
    "loss": "Training loss, all terms",
    "decode.loss_ce": "Cross-entropy of the decode head",
    "mIoU": "mIoU on val, %",
}
"""Metrics of the training curves that are drawn, where they were measured, and their titles."""


def curves_figure(curves: pd.DataFrame, methods: Mapping[str, str]) -> Figure:
    """Mean over seeds of each of `CURVES`, with a band of one sample standard deviation."""
    drawn = curves[curves["method"].isin(methods)]
    metrics = [name for name in CURVES if (drawn["metric"] == name).any()]
    panels = list(drawn.groupby(["dataset", "model"], sort=False))
    figure = Figure(figsize=(max(6.5, 4.0 * len(metrics)), 0.5 + 3.0 * len(panels)))
    grid = figure.subplots(len(panels), max(len(metrics), 1), squeeze=False)
    for row, (key, panel) in zip(grid, panels, strict=True):
        for axes, metric in zip(row, metrics, strict=False):
            for index, method in enumerate(methods):
                points = panel[(panel["method"] == method) & (panel["metric"] == metric)]
                _curve(axes, points, index)
            axes.set_title(CURVES[metric], loc="left")
            axes.set_xlabel("iteration")
            axes.set_xlim(left=0)
            axes.set_ylim(bottom=0)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.grid(color="0.9", linewidth=0.6)
        row[0].set_ylabel("\n".join(key))
    handles = [Line2D([], [], **line_style(index)) for index in range(len(methods))]
    legend(figure, handles, methods)
    return figure


def _curve(axes: Axes, points: pd.DataFrame, index: int) -> None:
    x, mean, spread = points["iteration"], points["mean"], points["std"].fillna(0)
    line = line_style(index)
    # Markers show where a rare measurement was made; on a dense curve they would hide it.
    marks: dict[str, Any] = {"marker": MARKERS[index % 7], "ms": 3} if len(x) < 30 else {}
    axes.plot(x, mean, **line, **marks)
    axes.fill_between(x, mean - spread, mean + spread, color=line["color"], alpha=0.2, linewidth=0)


def curves(material: Material) -> Section:
    everything = labels(material.study, control=False) | labels(material.study, control=True)
    drawing = Drawing(
        "curves",
        curves_figure(material.comparison.curves, everything),
        f"Training curves of {listed(everything)} over the iterations.",
        "Mean over seeds, band of one sample standard deviation. The total loss holds each "
        "method's own terms and is no ground for comparison.",
    )
    return Section("Training curves", [drawing])
