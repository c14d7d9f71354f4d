"""The figures of a report, as matplotlib figures: no files are read, no global state is changed.

A panel is a data set with a model; each figure stacks one row a panel. Methods differ in colour
(Okabe and Ito's, which colour-blind readers can tell apart) and in marker or line style; classes
have the colours of their data card. The HTML page shows neutral greys, black and white as its own
ink and paper, light or dark: a grey that has a meaning goes through `fixed`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from pipelines.embedding import Embedding
from pipelines.gallery import Panel, Scene

_COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LINES = ("-", "--", "-.", ":")
_CELL = 2.0
"""Width of an image in the gallery, in inches."""

_ABREAST = 3
"""Panes side by side, at most."""

CURVES = {
    "loss": "Training loss, all terms",
    "decode.loss_ce": "Cross-entropy of the decode head",
    "mIoU": "mIoU on val, %",
}
"""Metrics of the training curves that are drawn, where they were measured, and their titles."""


@contextmanager
def drawing():
    """The style of all figures, whatever the user's matplotlibrc says; draw and save inside."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "svg.hashsalt": "semantic-anchors",
                # Text that can be read out, searched and enlarged; Verdana has DejaVu's widths.
                "svg.fonttype": "none",
                "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
                "font.size": 9,
                "axes.titlesize": 10,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "legend.frameon": False,
                "figure.constrained_layout.use": True,
            }
        )
        yield


def save(figure: Figure, folder: Path, stem: str) -> None:
    """Write `stem`.png and `stem`.svg without dates, so that equal figures give equal bytes."""
    figure.savefig(folder / f"{stem}.png", dpi=150, metadata={"Software": None})
    figure.savefig(folder / f"{stem}.svg", metadata={"Date": None})


def per_class_figure(table: pd.DataFrame, methods: Mapping[str, str]) -> Figure:
    """IoU of every class, from the most to the least frequent one in training.

    Args:
        table: from `tables.per_class_table`.
        methods: names of the methods to draw, with their labels.
    """
    panels = list(table.groupby(["dataset", "model"], sort=False))
    classes = max(len(panel) for _, panel in panels)
    figure = Figure(figsize=(max(7.0, 1.5 + 0.62 * classes), 0.5 + 3.4 * len(panels)))
    rows = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, (key, panel) in zip(rows, panels, strict=True):
        _per_class_panel(axes, panel, methods)
        axes.set_title(" / ".join(key), loc="left")
    handles = [Line2D([], [], linestyle="none", **_marker(index)) for index in range(len(methods))]
    _legend(figure, handles, methods)
    return figure


def _per_class_panel(axes, panel: pd.DataFrame, methods: Mapping[str, str]) -> None:
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
            **_marker(index),
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
    slant = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axes.set_xticks(places, names, **slant)
    axes.set_xlim(-0.5, len(panel) - 0.5)
    axes.set_ylim(0, 109)
    axes.set_yticks(range(0, 101, 20))
    axes.set_ylabel("IoU, %")
    axes.grid(axis="y", color="0.85", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("class, and its share of the labelled training pixels")


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
    handles = [Line2D([], [], **_line(index)) for index in range(len(methods))]
    _legend(figure, handles, methods)
    return figure


def _curve(axes, points: pd.DataFrame, index: int) -> None:
    x, mean, spread = points["iteration"], points["mean"], points["std"].fillna(0)
    line = _line(index)
    # Markers show where a rare measurement was made; on a dense curve they would hide it.
    axes.plot(x, mean, **line, **({"marker": _MARKERS[index % 7], "ms": 3} if len(x) < 30 else {}))
    axes.fill_between(x, mean - spread, mean + spread, color=line["color"], alpha=0.2, linewidth=0)


def _marker(index: int) -> dict:
    return {
        "color": _COLOURS[index % len(_COLOURS)],
        "marker": _MARKERS[index % len(_MARKERS)],
        "markersize": 5,
    }


def _line(index: int) -> dict:
    return {
        "color": _COLOURS[index % len(_COLOURS)],
        "linestyle": _LINES[index % len(_LINES)],
        "linewidth": 1.3,
    }


class MethodStyle(NamedTuple):
    """How a method looks in all figures: keyword arguments of matplotlib's `plot`."""

    marker: dict
    line: dict


def method_style(index: int) -> MethodStyle:
    """Of the method at this place, the baseline at 0."""
    return MethodStyle(_marker(index), _line(index))


def gallery_figure(
    panels: Mapping[Panel, Sequence[Scene]],
    data: Mapping[str, Mapping],
    methods: Mapping[str, str],
) -> Figure:
    """Image, truth and the prediction of each method, with the image's own mean IoU.

    Args:
        panels: scenes by (data set, model); each has one at least.
        data: for each data set the contents of its info.json.
        methods: names of the methods to draw, with their labels.
    """
    rows = [len(scenes) for scenes in panels.values()]
    shape = next(scene.truth.shape for scenes in panels.values() for scene in scenes)
    height = _CELL * shape[0] / shape[1] + 0.25
    width = _CELL * (2 + len(methods)) + 0.4
    figure = Figure(figsize=(width, height * sum(rows) + 0.8 * len(panels)))
    parts = figure.subfigures(len(panels), 1, squeeze=False, height_ratios=rows)[:, 0]
    for part, (key, scenes) in zip(parts, panels.items(), strict=True):
        _gallery_panel(part, scenes, data[key[0]], methods)
        part.suptitle(" / ".join(key), x=0.01, ha="left", fontsize=10)
    return figure


def _gallery_panel(part, scenes: Sequence[Scene], info: Mapping, methods: Mapping) -> None:
    grid = part.subplots(len(scenes), 2 + len(methods), squeeze=False)
    for row, scene in zip(grid, scenes, strict=True):
        row[0].imshow(scene.image, interpolation="none")
        points = 72 * _CELL * scene.truth.shape[0] / scene.truth.shape[1]
        name = f"{scene.part}\n{scene.stem}"
        row[0].set_ylabel(name, fontsize=min(8, 1.6 * points / max(len(scene.stem), 6)))
        row[1].imshow(painted(scene.truth, scene.truth, info), interpolation="none")
        for axes, method in zip(row[2:], methods, strict=True):
            if method in scene.predictions:
                prediction = painted(scene.predictions[method], scene.truth, info)
                axes.imshow(prediction, interpolation="none")
                axes.set_xlabel(f"mIoU {scene.scores[method]:.1f} %", fontsize=8)
            else:
                axes.text(0.5, 0.5, "missing", ha="center", va="center", transform=axes.transAxes)
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    for axes, title in zip(grid[0], ("image", "truth", *methods.values()), strict=True):
        axes.set_title(title)
    _gallery_legend(part, scenes, info, width=_CELL * grid.shape[1])


def classes_seen(scenes: Sequence[Scene], info: Mapping) -> tuple[dict[str, tuple], bool]:
    """Colours by name of the classes in these scenes, and whether some pixel is void."""
    maps = [array for scene in scenes for array in (scene.truth, *scene.predictions.values())]
    seen = set().union(*(np.unique(array).tolist() for array in maps))
    pairs = enumerate(zip(info["classes"], info["palette"], strict=True))
    colours = {name: tuple(colour) for index, (name, colour) in pairs if index in seen}
    return colours, info["ignore_index"] in seen


def _gallery_legend(part, scenes: Sequence[Scene], info: Mapping, width: float) -> None:
    colours, void = classes_seen(scenes, info)
    handles = [
        Patch(facecolor=fixed(colour), edgecolor="0.5", linewidth=0.5, label=name)
        for name, colour in colours.items()
    ]
    if void:
        handles.append(Patch(facecolor="w", edgecolor="k", hatch="/////", lw=0, label="void"))
    longest = max(len(handle.get_label()) for handle in handles)
    columns = max(1, min(len(handles), int(width / (0.5 + 0.07 * longest))))
    part.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8)


def fixed(colour: Sequence[int]) -> tuple[float, float, float]:
    """A colour (0..255) for matplotlib, that is never quite a neutral grey."""
    red, green, blue = colour
    if red == green == blue:
        blue += 1 if blue < 255 else -1
    return red / 255, green / 255, blue / 255


def painted(ids: np.ndarray, truth: np.ndarray, info: Mapping) -> np.ndarray:
    """Class ids (H, W) in the colours of the data card, (H, W, 3) uint8.

    Where the truth is void the map is striped: whatever is predicted there does not count.
    """
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(info["palette"])] = info["palette"]
    stripes = np.add.outer(np.arange(ids.shape[0]), np.arange(ids.shape[1])) // 2 % 2
    void = (truth == info["ignore_index"])[..., None]
    return np.where(void, np.uint8(255) * stripes[..., None].astype(np.uint8), palette[ids])


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
    columns, lines = _grid(len(methods))
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


def _grid(panes: int) -> tuple[int, int]:
    """Columns and lines that a page can show of this many panes side by side."""
    columns = min(panes, _ABREAST)
    return columns, -(-panes // columns)


def _confusion_panel(axes, difference: pd.DataFrame):
    values = difference.to_numpy()
    largest = max(1.0, np.nanmax(np.abs(values), initial=0.0))
    drawn = axes.imshow(values, cmap="PuOr", vmin=-largest, vmax=largest, interpolation="none")
    places = range(len(difference))
    few = len(difference) <= 20
    if few:
        for (row, column), value in np.ndenumerate(values):
            if abs(value) >= 0.95:
                shade = (255, 255, 255) if abs(value) > 0.6 * largest else (0, 0, 0)
                axes.text(
                    *(column, row, f"{value:+.0f}"),
                    **{"ha": "center", "va": "center", "fontsize": 7, "color": fixed(shade)},
                )
    size = 8 if few else 3
    axes.set_xticks(places, difference.columns, rotation=90, fontsize=size)
    axes.set_yticks(places, difference.index, fontsize=size)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth")
    return drawn


def embedding_figure(
    panels: Mapping[Panel, Mapping[str, Embedding]],
    data: Mapping[str, Mapping],
    methods: Mapping[str, str],
) -> Figure:
    """Sampled pixel features in the plane, in the colours of their classes; anchors as stars.

    Args:
        panels: embeddings by (data set, model) and method.
        data: for each data set the contents of its info.json.
        methods: labels by name.
    """
    columns, lines = _grid(max(len(panel) for panel in panels.values()))
    figure = Figure(figsize=(3.6 * columns + 1.6, 0.4 + 3.7 * lines * len(panels)))
    parts = figure.subfigures(len(panels), 1, squeeze=False)[:, 0]
    for part, (key, panel) in zip(parts, panels.items(), strict=True):
        info = data[key[0]]
        colours = [fixed(colour) for colour in info["palette"]]
        grid = part.subplots(lines, columns, squeeze=False).ravel()
        anchors = False
        for axes, (method, found) in zip(grid, panel.items(), strict=False):
            # The edge tells a dark class from dark paper, and a light one from white.
            edge = {"edgecolors": "0.5", "linewidths": 0.3}
            axes.scatter(*found.points.T, s=8, c=[colours[k] for k in found.labels], **edge)
            for place, label in zip(found.anchors, found.anchor_labels, strict=True):
                axes.plot(*place, **_STAR, color=colours[label])
                anchors = True
            axes.set_title(methods[method], loc="left")
        for axes in part.axes:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            axes.set_aspect("equal", adjustable="datalim")
        seen = sorted({label for found in panel.values() for label in found.labels.tolist()})
        dot = {"linestyle": "none", "marker": "o", "markersize": 5}
        dot |= {"markeredgecolor": "0.5", "markeredgewidth": 0.5}
        handles = [Line2D([], [], **dot, color=colours[k], label=info["classes"][k]) for k in seen]
        if anchors:
            handles.append(Line2D([], [], **_STAR, color="0.6", label="semantic anchor"))
        part.legend(
            handles=handles, loc="outside right upper", fontsize=8, ncols=1 + len(seen) // 24
        )
        part.suptitle(" / ".join(key), x=0.01, ha="left", fontsize=10)
    return figure


_STAR = {
    **{"linestyle": "none", "marker": "*", "markersize": 11},
    **{"markeredgecolor": "k", "markeredgewidth": 0.7},
}


def _legend(figure: Figure, handles: list[Line2D], methods: Mapping[str, str]) -> None:
    figure.legend(handles, methods.values(), loc="outside upper right", ncols=min(len(methods), 4))
