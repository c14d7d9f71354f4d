"""Compactness and separability of the features, told and drawn."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipelines.rendering.parts import Drawing, Section, Text
from pipelines.report import charts
from pipelines.report.charts import GRID, axes_grid, legend, points, slant, wrapped
from pipelines.report.measure_table import (
    Measure,
    adjusted,
    difference_sentences,
    measure_table,
)
from pipelines.report.sections import frequency

MEASURES = {
    "compactness/ratio": Measure("variance within / between classes", "lower", free=True),
    "compactness/silhouette": Measure("silhouette of sampled pixels", "higher", free=True),
    "compactness/weight_cosine": Measure("cosine, class mean and classifier", "higher", free=True),
    "compactness/anchor_cosine": Measure("cosine, class mean and anchor", "higher", free=True),
    "compactness/anchor_distance_relative": Measure(
        "distance of class mean and anchor / spread of class means", "lower", free=True
    ),
    "compactness/within_variance": Measure("variance within classes", "lower"),
    "compactness/between_distance": Measure("distance between class means", "higher"),
    "compactness/feature_norm": Measure("norm of class means", None),
    "compactness/anchor_distance": Measure("distance of class mean and anchor", "lower"),
}
"""By name in measures.csv, the main ones first."""


_MAIN = list(MEASURES)[:3]


def section(
    tables: Mapping[str, pd.DataFrame], methods: Mapping[str, str], baseline: str
) -> Section | None:
    """What was found.

    Args:
        tables: `measures`, `summary`, `paired` and `classes` of `pipelines.analyse`.
        methods: labels of all methods by name, the baseline first.

    Returns:
        None where no run has features.
    """
    paired = tables["paired"]
    tests = adjusted(paired[paired["metric"].isin(_MAIN)])
    table = measure_table("compactness_measures", tables, MEASURES, methods, tests)
    if table is None:
        return None
    sentences = difference_sentences(paired, tests, MEASURES, methods, _MAIN)
    text = Text(
        "Measured on the feature map that the last layer classifies, on the evaluated split: "
        "class means and variances over all labelled pixels, the silhouette over a sample of the "
        "same pixels in every run. Compared are measures free of scale; lengths and variances "
        "depend on the norm of the features, which a method may change, and stand below for "
        f"completeness. Differences to {methods[baseline]}, paired by seed:\n\n"
        + (sentences or "- no seed has both methods, so nothing can be compared.")
    )
    panels = [
        charts.Panel(name, MEASURES[name].title)
        for name in _MAIN
        if (tables["measures"]["metric"] == name).any()
    ]
    drawings = [
        Drawing(
            "compactness",
            charts.paired_figure(tables["measures"], panels, methods),
            "One dot for each run and a line for each seed, from the baseline to the other "
            "methods: " + "; ".join(panel.title for panel in panels) + ".",
            "One line a seed. Lower is more compact in the first panel, higher is better separated "
            "or aligned in the others.",
        )
    ]
    if tables["classes"]["relative_scatter"].notna().any():
        drawings.append(
            Drawing(
                "scatter_by_class",
                class_figure(
                    tables["classes"],
                    "relative_scatter",
                    "variance within the class, relative",
                    methods,
                ),
                "Variance within each class, divided by the variance of the class means, by class "
                "and method, from the most to the least frequent class.",
                "Variance within each class over the variance of the class means; from the most to "
                "the least frequent class in training, mean and sample standard deviation over "
                "seeds.",
            )
        )
    by_frequency = frequency.parts(tables["classes"], methods, baseline)
    return Section(
        "Compactness and separability", [text, *drawings[:1], *by_frequency, *drawings[1:], table]
    )


def class_figure(
    classes: pd.DataFrame, column: str, label: str, methods: Mapping[str, str]
) -> Figure:
    """`column` of every class, from the most to the least frequent one in training."""
    rows = list(classes.groupby(["dataset", "model"], sort=False))
    number = max(found["class"].nunique() for _, found in rows)
    figure, grid = axes_grid(len(rows), 1, max(6.5, 1.5 + 0.5 * number), 2.8)
    for (axes,), (key, found) in zip(grid, rows, strict=True):
        order = found.drop_duplicates("class").sort_values("train_share", ascending=False)["class"]
        order = [name for name in order if found.loc[found["class"] == name, column].notna().any()]
        shown = [name for name in methods if name in set(found["method"])]
        step = min(0.22, 0.7 / len(shown))
        for place, name in enumerate(shown):
            groups = found[found["method"] == name].groupby("class")[column]
            mean, std = groups.mean().reindex(order), groups.std().reindex(order).fillna(0)
            points(
                axes,
                np.arange(len(order)) + step * (place - (len(shown) - 1) / 2),
                mean,
                std,
                list(methods).index(name),
            )
        axes.set_xticks(range(len(order)), order, **slant(order))
        axes.set_ylabel(wrapped(label))
        axes.set_ylim(bottom=0)
        axes.set_title(" / ".join(key), loc="left")
        axes.grid(axis="y", **GRID)
    legend(figure, methods, set(classes["method"]))
    return figure
