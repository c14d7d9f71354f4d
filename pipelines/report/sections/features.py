"""The features of sampled pixels, drawn in the plane."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipelines.evaluate import kept
from pipelines.rendering.parts import Drawing, Section
from pipelines.rendering.style import fixed, layout
from pipelines.report.embedding import Embedding, embed
from pipelines.report.gallery import Panel
from pipelines.report.material import Material, labels


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
    columns, lines = layout(max(len(panel) for panel in panels.values()))
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
        dot: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 5}
        dot |= {"markeredgecolor": "0.5", "markeredgewidth": 0.5}
        handles = [Line2D([], [], **dot, color=colours[k], label=info["classes"][k]) for k in seen]
        if anchors:
            handles.append(Line2D([], [], **_STAR, color="0.6", label="semantic anchor"))
        part.legend(
            handles=handles, loc="outside right upper", fontsize=8, ncols=1 + len(seen) // 24
        )
        part.suptitle(" / ".join(key), x=0.01, ha="left", fontsize=10)
    return figure


_STAR: dict[str, Any] = {
    **{"linestyle": "none", "marker": "*", "markersize": 11},
    **{"markeredgecolor": "k", "markeredgewidth": 0.7},
}


def features(material: Material) -> Section | None:
    """The feature spaces in the plane; None where no run has kept enough of its features."""
    methods = labels(material.study, control=False)
    panels: dict[Panel, dict[str, Embedding]] = {}
    for key, runs in material.shown.items():
        for run in runs:
            found = embed(kept.of(run))
            if found is not None:
                panels.setdefault(key, {})[run.method] = found
    if not panels:
        return None
    seeds = {run.seed for key in panels for run in material.shown[key]}
    counts = ", ".join(
        f"{len(each.points)} with {methods[method]} ({' / '.join(key)})"
        for key, panel in panels.items()
        for method, each in panel.items()
    )
    drawing = Drawing(
        "features",
        embedding_figure(panels, material.data, methods),
        f"Scatter plots of sampled pixels by class: {counts}. It is a picture to look at; what it "
        "may suggest is no measurement.",
        "t-SNE of pixel features, those that the model classifies, in the colours of their true "
        f"classes; runs of seed {', '.join(map(str, sorted(seeds)))}. As many pixels of each class "
        "as it has, up to one number for all; every run stands in a plane of its own. Stars are "
        "semantic anchors, embedded together with the pixels. Which points lie together means "
        "something; the sizes of groups and the distances between far ones do not.",
    )
    return Section("Features", [drawing])
