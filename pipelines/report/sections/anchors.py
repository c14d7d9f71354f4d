"""The semantic anchors over training, told and drawn."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipelines.analyse.anchors import CURVES
from pipelines.base.frames import KEYS
from pipelines.rendering.parts import Drawing, Part, Section, Text
from pipelines.rendering.style import method_style
from pipelines.report.charts import GRID, axes_grid, legend, wrapped
from pipelines.report.measure_table import Measure, measure_table, number, spread_cell

MEASURES = {
    "anchors/first_open": Measure("first recorded iteration with an open gate", None),
    "anchors/open_share": Measure("records with an open gate", None, unit=" %"),
    "anchors/final_min_confidence": Measure("least confidence of an anchor at the end", None),
    "anchors/final_mean_confidence": Measure("mean confidence of the anchors at the end", None),
    "anchors/final_lag": Measure("lag of the anchors at the end / their norm", None),
}
"""By name in measures.csv."""


_LOSSES = {"loss_aux_ce": "L_aux-ce", "loss_p2a": "L_p2a, the pull"}
"""The last part of a curve's name, and what it is."""


def section(
    tables: Mapping[str, pd.DataFrame],
    methods: Mapping[str, str],
    curves: pd.DataFrame | None = None,
) -> Section | None:
    """What was found.

    Args:
        tables: `measures`, `summary`, `paired` and `anchors` of `pipelines.analyse`.
        methods: labels of all methods by name.
        curves: training curves over seeds, as compare writes them.

    Returns:
        None where no run has a log of anchors.
    """
    table = measure_table("anchor_measures", tables, MEASURES, methods)
    log = tables["anchors"]
    if table is None or log.empty:
        return None
    shown = table.shown.drop(columns=["difference", "95 % interval"])
    text = Text(
        "Recorded during training every few iterations, so an opening of the gate is known to the "
        "record and not to the iteration: it was open at that record at the latest. Confidence is "
        "the probability that the classifier gives an embedded anchor's own class; the gate is "
        "open where every anchor is classified right and confident, and only then the semantic "
        "anchors move and pull. The lag is how far they are behind the embedded anchors that they "
        "follow: in an iteration with an open gate they move by (1 - momentum) / momentum of it."
        f"\n\n{_answers(tables, methods)}"
    )
    losses = _losses(curves, set(log["method"]))
    mechanism: list[Part] = []
    if not losses.empty:
        mechanism = [Text(_mechanism(losses, methods)), _drawn(losses, methods)]
    drawing = Drawing(
        "anchors",
        anchor_figure(log, CURVES, methods),
        "Over the training iterations: " + ", ".join(CURVES.values()) + ".",
        "One thin line a seed and their mean; of the gate the share of seeds in which it is open.",
    )
    caption = "Mean ± sample standard deviation over the seeds that have such a value."
    return Section(
        "Anchors over time",
        [text, drawing, *mechanism, type(table)(table.name, table.data, shown, caption)],
    )


def _losses(curves: pd.DataFrame | None, methods: set[str]) -> pd.DataFrame:
    """The rows of `curves` of the losses that these methods add, with the column loss."""
    if curves is None:
        return pd.DataFrame(columns=["loss"])
    found = curves.assign(loss=curves["metric"].str.rpartition(".")[2])
    return found[found["loss"].isin(_LOSSES) & found["method"].isin(methods)]


def _mechanism(losses: pd.DataFrame, methods: Mapping[str, str]) -> str:
    """When the auxiliary loss works: a mean over seeds is 0 where it is 0 in all of them."""
    lines = []
    auxiliary = losses[losses["loss"] == "loss_aux_ce"]
    for (dataset, model, method), found in auxiliary.groupby(KEYS, sort=False):
        works = found.loc[found["mean"] > 0, "iteration"]
        last = f"last above 0 at iteration {works.max()}" if len(works) else "never above 0"
        zero = 100 * (found["mean"] == 0).mean()
        lines.append(
            f"- {dataset} / {model}, {methods[method]}: L_aux-ce is {found['mean'].iloc[0]:.3g} at "
            f"the first record, {last} of {found['iteration'].max()}; it is exactly 0 in all seeds "
            f"in {zero:.0f} % of the {len(found)} records."
        )
    return "What the method adds to the loss, mean over seeds:\n\n" + "\n".join(lines)


def _drawn(losses: pd.DataFrame, methods: Mapping[str, str]) -> Drawing:
    names = {name: title for name, title in _LOSSES.items() if (losses["loss"] == name).any()}
    rows = list(losses.groupby(["dataset", "model"], sort=False))
    figure, grid = axes_grid(len(rows), len(names), 2.6, 2.6)
    for line, (key, found) in zip(grid, rows, strict=True):
        for axes, (loss, title) in zip(line, names.items(), strict=True):
            here = found[found["loss"] == loss]
            for name, curve in here.groupby("method", sort=False):
                style = method_style(list(methods).index(str(name))).line
                axes.plot(curve["iteration"], curve["mean"], **style)
            axes.set_xlim(left=0)
            axes.set_ylim(bottom=0)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.set_xlabel("iteration")
            axes.set_title(title, loc="left", fontsize=9)
            axes.grid(**GRID)
        line[0].set_ylabel("\n".join(key))
    legend(figure, methods, set(losses["method"]))
    return Drawing(
        "losses_over_time",
        figure,
        "Over the training iterations: " + ", ".join(names.values()) + ".",
        "What a method adds to the loss, weighted as it is there, mean over seeds.",
    )


def _answers(tables: Mapping[str, pd.DataFrame], methods: Mapping[str, str]) -> str:
    summary = tables["summary"].set_index([*KEYS, "metric"])
    lines = []
    for keys, log in tables["anchors"].groupby(KEYS, sort=False):
        by_seed = log.groupby("seed")["gate"]
        opened = int(by_seed.max().sum())
        line = (
            f"- {keys[0]} / {keys[1]}, {methods[keys[2]]}: the gate opened in {opened} of "
            f"{by_seed.ngroups} runs"
        )
        if opened:
            first, share = (
                summary.loc[(*keys, f"anchors/{name}")] for name in ("first_open", "open_share")
            )
            always = log[log["gate"] == 1].groupby("seed")["iteration"].min()
            after = log[log["iteration"] >= log["seed"].map(always)]
            line += (
                f", first at the record of iteration {spread_cell(first['mean'], first['std'])} of "
                f"{log['iteration'].max()}; open in {spread_cell(share['mean'], share['std'])} % "
                f"of the records, and in {number(100 * after['gate'].mean(), 1)} % of those from "
                "the first opening on"
            )
        lines.append(f"{line}.")
    return "\n".join(lines)


def anchor_figure(
    log: pd.DataFrame, curves: Mapping[str, str], methods: Mapping[str, str]
) -> Figure:
    """`curves`, columns of `log`, over the iterations: a faint line a seed, and the mean."""
    rows = list(log.groupby(["dataset", "model"], sort=False))
    figure, grid = axes_grid(len(rows), len(curves), 2.6, 2.6)
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
            axes.set_title(wrapped(title), loc="left", fontsize=9)
            axes.grid(**GRID)
        line[0].set_ylabel("\n".join(key))
    legend(figure, methods, set(log["method"]))
    return figure
