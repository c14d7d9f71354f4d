"""How far class means drift from seed to seed, told and drawn."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipelines.rendering.numbers import p_value
from pipelines.rendering.parts import Drawing, Section, Table, Text
from pipelines.rendering.style import method_style
from pipelines.report.charts import GRID, axes_grid, wrapped
from pipelines.report.measure_table import adjusted, in_words, interval_cell, number, verdict


def drift_figure(
    drift: pd.DataFrame, measures: Mapping[str, str], methods: Mapping[str, str]
) -> Figure:
    """A dot a pair of seeds, side by side by method, with their mean."""
    rows = list(drift.groupby(["dataset", "model"], sort=False))
    figure, grid = axes_grid(len(rows), len(measures), 3.6, 2.8)
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
            axes.set_xticks(range(len(shown)), [wrapped(methods[name], 14) for name in shown])
            axes.set_xlim(-0.6, len(shown) - 0.4)
            axes.set_ylim(bottom=0)
            axes.set_title(wrapped(title), loc="left", fontsize=9)
            axes.grid(axis="y", **GRID)
        line[0].set_ylabel("\n".join(key))
    return figure


MEASURES = {
    "gram": "1 - CKA of the class means",
    "procrustes": "Procrustes disparity of the class means",
}
"""By name in drift.csv."""


def section(
    tables: Mapping[str, pd.DataFrame], methods: Mapping[str, str], baseline: str
) -> Section | None:
    """What was found.

    Args:
        tables: `drift` and `drift_compared` of `pipelines.analyse`.
        methods: labels of all methods by name, the baseline first.

    Returns:
        None where no method has two seeds with features.
    """
    data = tables["drift_compared"]
    if data.empty:
        return None
    titles = data["measure"].map(MEASURES)
    data = data.assign(title=titles, label=data["method"].map(methods))
    # Assigned by the index: what is not tested has none.
    data["p_holm"] = adjusted(data.dropna(subset="p"), "seeds")["p_holm"]
    text = Text(
        "Each run gives one mean a class, over all pixels of the evaluated split, after training. "
        "The bases of two runs' features are unrelated, so compared is the shape that the class "
        "means form: their Gram matrix after centring (1 - CKA), and what is left after the best "
        "rotation and scale (Procrustes). 0 is the same shape in every seed. Seeds differ in "
        "initial weights, batches and augmentation, and with SAR in their class anchors too, which "
        "are drawn from the run's seed: no two seeds are pulled towards common anchors. This is no "
        "measurement of how prototypes move during training or with batches, of which the paper "
        f"speaks: no features are kept before the end.\n\n{_answers(data, methods)}"
    )
    drawing = Drawing(
        "drift",
        drift_figure(tables["drift"], MEASURES, methods),
        "Distances between the class means of all pairs of seeds, for each method.",
        "One dot for each pair of seeds; the bar is their mean. The dots of a method share seeds "
        "and are not independent.",
    )
    shown = pd.DataFrame(
        {
            "data set": data["dataset"],
            "model": data["model"],
            "measure": data["title"],
            "method": data["label"],
            "seeds": data["seeds"].astype(str),
            "mean over pairs": [number(value) for value in data["mean"]],
            "difference": [
                number(row.difference, row.high - row.low, True) for row in data.itertuples()
            ],
            "95 % interval": [interval_cell(row.low, row.high) for row in data.itertuples()],
            "p": [p_value(p) for p in data["p"]],
            "p, Holm": [p_value(p) for p in data["p_holm"]],
        }
    )
    caption = (
        "Mean distance over the pairs of seeds; difference to the baseline on the same seeds, with "
        "the 95 % t interval of its jackknife pseudo-values, one a seed; p of their sign-flip "
        f"test, and after Holm's correction over the {data['p_holm'].count()} tests by which the "
        "text answers. The pseudo-values are nearly independent, and so the test is nearly exact."
    )
    return Section(
        "Prototype drift", [text, drawing, Table("drift_compared", data, shown, caption)]
    )


def _answers(data: pd.DataFrame, methods: Mapping[str, str]) -> str:
    lines = []
    for row in data.dropna(subset="difference").itertuples():
        said = verdict(
            row.difference,
            row.p_holm,
            "the seeds differ more than the baseline's",
            "the seeds differ less than the baseline's",
        )
        lines.append(
            f"- {row.dataset} / {row.model}, {methods[row.method]}, {MEASURES[row.measure]}: "
            f"{number(row.mean)} against {number(row.baseline_mean)} over the pairs of {row.seeds} "
            f"seeds, 95 % interval of the difference {interval_cell(row.low, row.high)}"
            f"{in_words(row.p_holm)}: {said}."
        )
    return "\n".join(lines) or "- No two methods share two seeds, so nothing can be compared."
