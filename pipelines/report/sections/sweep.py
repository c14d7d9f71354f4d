"""Swept settings: the score at each point of a method's grid."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipelines.compare.inference import t_interval
from pipelines.rendering.numbers import cells, intervals
from pipelines.rendering.parts import Drawing, Part, Section, Table, Text, run_anchor
from pipelines.rendering.style import method_style
from pipelines.report.charts import FAINT, GRID, axes_grid
from pipelines.report.material import Material
from pipelines.study.grid import Sweep, Value, shown

_WIDTH, _HEIGHT = 4.6, 2.6
"""Inches of a pane, which has to be read on a phone."""
_LOGARITHMIC = 10
"""Greatest over least value from which positive values stand on a logarithmic axis."""


def section(material: Material) -> Section | None:
    """None where the study has no grid, or none of its points is finished."""
    parts: list[Part] = []
    for sweep in material.study.file.sweeps.values():
        table = sweep_table(material.comparison.runs, sweep)
        if table.empty:
            continue
        if len(sweep.keys) == 1:
            parts.append(_drawing(material, sweep, table))
        parts.append(_table(sweep, table))
    if not parts:
        return None
    chosen = material.study.file.kind == "tuning"
    split = material.study.file.evaluation.split
    said = (
        f"What is chosen here was seen on {split}, and belongs into another study, which tests it."
        if chosen
        else f"A description on {split}: nothing may be chosen by it."
    )
    return Section("Swept settings", [Text(said), *parts])


def sweep_table(runs: pd.DataFrame, sweep: Sweep) -> pd.DataFrame:
    """One row a data set, model and point, in the order of the grid.

    Args:
        runs: scores of the runs, as compare writes them.

    Returns:
        Columns dataset, model, method, a column for each swept key (texts, as in labels), seeds,
        mIoU_mean, mIoU_std (NaN for one seed), low and high: the 95 % t interval of the mean over
        seeds (NaN for one seed).
    """
    scores = runs[runs["metric"] == "mIoU"]
    rows = []
    for (dataset, model), panel in scores.groupby(["dataset", "model"], sort=False):
        for method, at in sweep.points.items():
            values = panel.loc[panel["method"] == method, "value"]
            if values.empty:
                continue
            low, high = t_interval(values)
            rows.append(
                {"dataset": dataset, "model": model, "method": method}
                | {key: shown(value) for key, value in at.items()}
                | {"seeds": len(values), "mIoU_mean": values.mean(), "mIoU_std": values.std()}
                | {"low": low, "high": high}
            )
    columns = [
        *("dataset", "model", "method", *sweep.keys),
        *("seeds", "mIoU_mean", "mIoU_std", "low", "high"),
    ]
    return pd.DataFrame(rows, columns=columns)


def sweep_figure(table: pd.DataFrame, sweep: Sweep, base: pd.DataFrame) -> Figure:
    """A line with intervals over the one swept key; a pane a data set and model.

    Args:
        table: of `sweep_table`.
        base: columns dataset, model, value: the baseline's runs; empty where it is a point.
    """
    [key] = sweep.keys
    panels = list(table.groupby(["dataset", "model"], sort=False))
    figure, grid = axes_grid(len(panels), 1, _WIDTH, _HEIGHT)
    style = method_style(1)
    for (axes,), (place, found) in zip(grid, panels, strict=True):
        x = _places(axes, [sweep.points[method][key] for method in found["method"]], sweep)
        order = np.argsort(x)
        ordered = found.iloc[order]
        spread = np.nan_to_num(
            [ordered["mIoU_mean"] - ordered["low"], ordered["high"] - ordered["mIoU_mean"]]
        )
        axes.errorbar(
            x[order], ordered["mIoU_mean"], yerr=spread, capsize=2.5, **(style.line | style.marker)
        )
        here = base[(base["dataset"] == place[0]) & (base["model"] == place[1])]
        if len(here):
            axes.axhline(here["value"].mean(), **method_style(0).line)
        axes.set_xlabel(key)
        axes.set_ylabel("mIoU, %")
        axes.set_title(" / ".join(place), loc="left")
        axes.grid(axis="y", **GRID)
        axes.spines["bottom"].set(color=FAINT["color"])
    return figure


def _places(axes: Axes, values: list[Value], sweep: Sweep) -> np.ndarray:
    """Where values stand on the horizontal axis: numbers as such, all else in the grid's order."""
    [key] = sweep.keys
    every = [at[key] for at in sweep.points.values()]
    if any(isinstance(value, bool | str) for value in every):
        axes.set_xticks(range(len(every)), [shown(value) for value in every])
        return np.array([every.index(value) for value in values], float)
    numbers = np.array(every, float)
    if numbers.min() > 0 and numbers.max() / numbers.min() >= _LOGARITHMIC:
        axes.set_xscale("log")
    axes.set_xticks(numbers, [shown(value) for value in every])
    axes.minorticks_off()
    return np.array(values, float)


def _drawing(material: Material, sweep: Sweep, table: pd.DataFrame) -> Drawing:
    file, runs = material.study.file, material.comparison.runs
    is_point = file.baseline in sweep.points
    at_base = (runs["method"] == file.baseline) & (runs["metric"] == "mIoU") & (not is_point)
    label = file.methods[file.baseline].label
    [key] = sweep.keys
    beside = "" if is_point else f" The horizontal line is the mean of {label}."
    return Drawing(
        f"sweep-{sweep.method}",
        sweep_figure(table, sweep, runs[at_base]),
        f"mIoU of {sweep.label} over {key}. The numbers are in the table below.",
        f"{sweep.label}: mIoU in percent over {key}, mean and its 95 % t interval over seeds (none "
        f"for one seed).{beside}",
    )


def _table(sweep: Sweep, table: pd.DataFrame) -> Table:
    read = pd.DataFrame({"data set": table["dataset"], "model": table["model"]})
    for key in sweep.keys:
        read[key] = table[key]
    read["mIoU"] = cells(table, "mIoU")
    read["95 % interval"] = intervals(table, "low", "high")
    read["seeds"] = table["seeds"].astype(str)
    anchors = [
        {"mIoU": run_anchor(row.dataset, row.model, row.method)} for row in table.itertuples()
    ]
    caption = (
        f"{sweep.label}, swept over {', '.join(sweep.keys)}: mIoU in percent, mean ± sample "
        "standard deviation over seeds, and the 95 % t interval of the mean."
    )
    return Table(f"sweep-{sweep.method}", table, read, caption, anchors)
