"""The scores class by class, and what is confused with what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D

from pipelines.base.metric_names import of_class
from pipelines.compare.claims import says_better
from pipelines.compare.inference import benjamini_hochberg
from pipelines.rendering.numbers import NOTHING, cells, listed, p_value
from pipelines.rendering.parts import Drawing, Section, Table, Text, run_anchor
from pipelines.rendering.style import fixed, layout, legend, marker
from pipelines.report.material import PAIRED, Material, labels


def per_class_figure(table: pd.DataFrame, methods: Mapping[str, str]) -> Figure:
    """IoU of every class, from the most to the least frequent one in training.

    Args:
        table: from `per_class_table`.
        methods: names of the methods to draw, with their labels.
    """
    panels = list(table.groupby(["dataset", "model"], sort=False))
    classes = max(len(panel) for _, panel in panels)
    figure = Figure(figsize=(max(7.0, 1.5 + 0.62 * classes), 0.5 + 3.4 * len(panels)))
    rows = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, (key, panel) in zip(rows, panels, strict=True):
        _per_class_panel(axes, panel, methods)
        axes.set_title(" / ".join(key), loc="left")
    handles = [Line2D([], [], linestyle="none", **marker(index)) for index in range(len(methods))]
    legend(figure, handles, methods)
    return figure


def _per_class_panel(axes: Axes, panel: pd.DataFrame, methods: Mapping[str, str]) -> None:
    places = np.arange(len(panel))
    step = min(0.22, 0.7 / len(methods))
    for index, method in enumerate(methods):
        if f"{method}_mean" not in panel:
            continue
        axes.errorbar(
            places + step * (index - (len(methods) - 1) / 2),
            panel[f"{method}_mean"],
            yerr=panel[f"{method}_std"].fillna(0),
            linestyle="none",
            linewidth=1.2,
            capsize=2.5,
            **marker(index),
        )
    start = 0
    for number, (group, members) in enumerate(groupby(panel["group"].fillna(""))):
        end = start + len(list(members))
        axes.axvspan(start - 0.5, end - 0.5, color="0.94" if number % 2 == 0 else "1.0", zorder=0)
        axes.text((start + end - 1) / 2, 101, group, ha="center", va="bottom", color="0.3")
        start = end
    crowded = panel["class"].str.len().max() > 10
    names = [
        f"{name}{', ' if crowded else chr(10)}{100 * share:.2g} %"
        for name, share in zip(panel["class"], panel["train_share"], strict=True)
    ]
    slant: dict[str, Any] = {}
    if crowded:
        slant = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(places, names, **slant)
    axes.set_xlim(-0.5, len(panel) - 0.5)
    axes.set_ylim(0, 109)
    axes.set_yticks(range(0, 101, 20))
    axes.set_ylabel("IoU, %")
    axes.grid(axis="y", color="0.85", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("class, and its share of the labelled training pixels")


def confusion_figure(
    confusion: pd.DataFrame,
    classes: Mapping[str, Sequence[str]],
    baseline: str,
    methods: Mapping[str, str],
) -> Figure:
    """Where the pixels of each class went more, or less, often than with the baseline.

    Args:
        confusion: as compare writes it; the mean over seeds is drawn.
        classes: names by data set, in the order in which they are drawn.
        methods: labels of the methods to draw, the baseline not among them.
    """
    panels = list(confusion.groupby(["dataset", "model"], sort=False))
    most = max(len(classes[dataset]) for (dataset, _), _ in panels)
    side = min(9.0, 2.2 + 0.42 * most)
    columns, lines = layout(len(methods))
    figure = Figure(figsize=(side * columns + 0.6, side * lines * len(panels)))
    parts = figure.subfigures(len(panels), 1, squeeze=False)[:, 0]
    for part, (key, panel) in zip(parts, panels, strict=True):
        grid = part.subplots(lines, columns, squeeze=False).ravel()
        names = list(classes[key[0]])
        shares = {
            method: panel[panel["method"] == method]
            .pivot(index="truth", columns="prediction", values="mean")
            .reindex(index=names, columns=names)
            for method in (baseline, *methods)
        }
        for axes, (method, label) in zip(grid, methods.items(), strict=False):
            drawn = _confusion_panel(axes, shares[method] - shares[baseline])
            axes.set_title(f"{label} minus baseline\n{' / '.join(key)}", loc="left")
            bar = part.colorbar(drawn, ax=axes, shrink=0.7)
            bar.set_label("points of the class's true pixels")
            bar.outline.set_visible(False)
        for axes in grid[len(methods) :]:
            axes.set_axis_off()
    return figure


def _confusion_panel(axes: Axes, difference: pd.DataFrame) -> AxesImage:
    values = difference.to_numpy()
    largest = max(1.0, np.nanmax(np.abs(values), initial=0.0))
    drawn = axes.imshow(values, cmap="PuOr", vmin=-largest, vmax=largest, interpolation="none")
    places = range(len(difference))
    few = len(difference) <= 20
    if few:
        for (row, column), value in np.ndenumerate(values):
            if abs(value) >= 0.95:
                shade = (255, 255, 255) if abs(value) > 0.6 * largest else (0, 0, 0)
                style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7}
                axes.text(column, row, f"{value:+.0f}", color=fixed(shade), **style)
    size = 8 if few else 3
    axes.set_xticks(places, difference.columns, rotation=90, fontsize=size)
    axes.set_yticks(places, difference.index, fontsize=size)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth")
    return drawn


def per_class_table(
    summary: pd.DataFrame,
    paired: pd.DataFrame,
    methods: Mapping[str, str],
    data: Mapping[str, Mapping],
) -> pd.DataFrame:
    """One row a data set, model and class, from the most to the least frequent class.

    Args:
        data: for each data set the contents of its info.json.

    Returns:
        Columns dataset, model, class, group, train_share (fraction of the labelled training
        pixels), then `<method>_mean` and `<method>_std` of the IoU for each method, then
        `<method>_difference_mean`, `<method>_difference_std` and `<method>_q` for each method that
        has a paired difference: q is the t test's p after Benjamini and Hochberg's correction over
        the classes. NaN for a class that the split does not contain.
    """
    rows = []
    for dataset, model in summary[["dataset", "model"]].drop_duplicates().itertuples(index=False):
        info = data[dataset]
        group_of = {name: group for group, members in info["groups"].items() for name in members}
        for name in sorted(info["classes"], key=lambda name: -info["pixel_share"][name]):
            rows.append((dataset, model, name, group_of.get(name), info["pixel_share"][name]))
    table = pd.DataFrame(rows, columns=["dataset", "model", "class", "group", "train_share"])
    index = pd.MultiIndex.from_arrays(
        [table["dataset"], table["model"], table["class"].map(of_class)]
    )
    for frame, statistics in (
        (summary, {"mean": "mean", "std": "std"}),
        (
            paired,
            {"mean_difference": "difference_mean", "std_difference": "difference_std", "p_t": "q"},
        ),
    ):
        for method in methods:
            values = frame[frame["method"] == method].set_index(["dataset", "model", "metric"])
            if len(values):
                values = values.reindex(index)
                for statistic, suffix in statistics.items():
                    table[f"{method}_{suffix}"] = values[statistic].to_numpy()
    for name in [name for name in table if name.endswith("_q")]:
        groups = table.groupby(["dataset", "model"], sort=False)[name]
        table[name] = groups.transform(benjamini_hochberg)
    return table


def shown_per_class(table: pd.DataFrame, methods: Mapping[str, str]) -> pd.DataFrame:
    """`per_class_table` of one data set and model as text."""
    shown = pd.DataFrame({"class": table["class"], "group": table["group"].fillna(NOTHING)})
    shown["train pixels, %"] = [f"{100 * share:.2f}" for share in table["train_share"]]
    for method, label in methods.items():
        if f"{method}_mean" in table:
            shown[label] = cells(table, method)
    for method, label in methods.items():
        if f"{method}_difference_mean" in table:
            shown[f"{label}, difference"] = cells(table, f"{method}_difference", signed=True)
            shown[f"{label}, q"] = [p_value(q) for q in table[f"{method}_q"]]
    return shown


def class_winners(
    panel: pd.DataFrame, claims: pd.DataFrame, methods: Mapping[str, str]
) -> set[tuple[int, str]]:
    """The same of `per_class_table` of one data set and model: (number of the row, label)."""
    best = set()
    here = [method for method in methods if f"{method}_mean" in panel]
    for number, row in enumerate(panel.to_dict("records")):
        means = {method: row[f"{method}_mean"] for method in here}
        scored = {method: mean for method, mean in means.items() if not pd.isna(mean)}
        winner = max(scored, key=scored.__getitem__, default="")
        if says_better(claims, row["dataset"], row["model"], of_class(row["class"]), winner):
            best.add((number, methods[winner]))
    return best


def classes(material: Material) -> Section:
    study, found = material.study, material.comparison
    methods = labels(study, control=False)
    by_class = per_class_table(found.summary, found.paired, methods, material.data)
    caption = (
        "From the most to the least frequent class in training, in percent, mean ± sample standard "
        f"deviation over seeds; {PAIRED}. q: p of the t test of a difference, after Benjamini and "
        "Hochberg's correction over the classes. Exploratory: where to look, and no conclusion."
    )
    parts: list = [
        Drawing(
            "per_class",
            per_class_figure(by_class, methods),
            f"IoU of each class with {listed(methods)}, from the most to the least frequent class "
            "in training. The numbers are in the tables below.",
            "IoU of each class: mean and sample standard deviation over seeds.",
        )
    ]
    for (dataset, model), panel in by_class.groupby(["dataset", "model"], sort=False):
        means = [f"{method}_mean" for method in methods if f"{method}_mean" in panel]
        absent = panel.loc[panel[means].isna().all(axis=1), "class"].tolist() if means else []
        if absent:
            parts.append(
                Text(
                    f"{dataset} / {model}: the {study.file.evaluation.split} split has no labelled "
                    f"pixel of {', '.join(absent)}: no score, and left out of every mean."
                )
            )
        anchors = {label: run_anchor(dataset, model, name) for name, label in methods.items()}
        parts.append(
            Table(
                f"per_class-{dataset}-{model}",
                panel.reset_index(drop=True),
                shown_per_class(panel, methods),
                f"**{dataset} / {model}.** {caption}",
                [anchors] * len(panel),
                strong=class_winners(panel, found.claims, methods),
            )
        )
    return Section("Classes", [*parts, *_confusion(material)])


def _confusion(material: Material) -> list[Drawing]:
    """Where the compared methods' pixels went otherwise than the baseline's."""
    study, confusion = material.study, material.comparison.confusion
    methods = labels(study, control=False)
    present = confusion.groupby(["dataset", "model"])["method"].transform(
        lambda names: study.file.baseline in set(names)
    )
    drawn = confusion[present & confusion["method"].isin(methods)]
    others = {name: label for name, label in methods.items() if name != study.file.baseline}
    others = {name: label for name, label in others.items() if (drawn["method"] == name).any()}
    if not others:
        return []
    names = {
        name: sorted(info["classes"], key=info["pixel_share"].__getitem__, reverse=True)
        for name, info in material.data.items()
    }
    base = methods[study.file.baseline]
    return [
        Drawing(
            "confusion",
            confusion_figure(drawn, names, study.file.baseline, others),
            f"Confusion matrix of {listed(others)} minus that of {base}. "
            + " ".join(_most_moved(drawn, study.file.baseline, others)),
            f"Confusion matrices, {listed(others)} minus {base}: how many points more of a "
            "class's true pixels (row) were predicted as a class (column), mean over seeds. On the "
            "diagonal more is better, elsewhere less. Classes from the most to the least frequent "
            "one in training; a row without colour belongs to a class that the split lacks.",
        )
    ]


def _most_moved(confusion: pd.DataFrame, baseline: str, others: Mapping[str, str]) -> list[str]:
    """The largest gain and loss of each matrix in words."""
    index = ["dataset", "model", "truth", "prediction"]
    wide = confusion.pivot(index=index, columns="method", values="mean")
    sentences = []
    for method, label in others.items():
        moved = (wide[method] - wide[baseline]).dropna()
        for (dataset, model), values in moved.groupby(level=["dataset", "model"], sort=False):
            most, least = values.idxmax(), values.idxmin()
            sentences.append(
                f"{label} on {dataset} with {model}: the largest gain is {values[most]:+.1f} "
                f"points ({most[2]} predicted as {most[3]}), the largest loss {values[least]:+.1f} "
                f"({least[2]} predicted as {least[3]})."
            )
    return sentences
