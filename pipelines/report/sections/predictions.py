"""The gallery: images, their truth, and what each method predicts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch

from pipelines.rendering import style
from pipelines.rendering.numbers import listed
from pipelines.rendering.parts import Drawing, Picture, Pictures, Section, Text
from pipelines.rendering.style import fixed, painted
from pipelines.report.gallery import Panel, Scene, ShownScenes
from pipelines.report.material import Material, labels

_CELL = 2.0
"""Width of an image in the gallery, in inches."""


def gallery_figure(
    panels: Mapping[Panel, Sequence[Scene]],
    data: Mapping[str, Mapping],
    methods: Mapping[str, str],
    withheld: Collection[str] = (),
) -> Figure:
    """Image, truth and the prediction of each method, with the image's own mean IoU.

    Args:
        panels: scenes by (data set, model); each has one at least.
        data: for each data set the contents of its info.json.
        methods: names of the methods to draw, with their labels.
        withheld: data sets whose images are not shown, only their truth and predictions.
    """
    rows = [len(scenes) for scenes in panels.values()]
    shape = next(scene.truth.shape for scenes in panels.values() for scene in scenes)
    height = _CELL * shape[0] / shape[1] + 0.25
    width = _CELL * (2 + len(methods)) + 0.4
    figure = Figure(figsize=(width, height * sum(rows) + 0.8 * len(panels)))
    parts = figure.subfigures(len(panels), 1, squeeze=False, height_ratios=rows)[:, 0]
    for part, (key, scenes) in zip(parts, panels.items(), strict=True):
        _gallery_panel(part, scenes, data[key[0]], methods, photos=key[0] not in withheld)
        part.suptitle(" / ".join(key), x=0.01, ha="left", fontsize=10)
    return figure


def _gallery_panel(
    part: SubFigure, scenes: Sequence[Scene], info: Mapping, methods: Mapping, *, photos: bool
) -> None:
    maps = 1 + len(methods)
    grid = part.subplots(len(scenes), photos + maps, squeeze=False)
    for row, scene in zip(grid, scenes, strict=True):
        if photos:
            row[0].imshow(scene.image, interpolation="none")
        points = 72 * _CELL * scene.truth.shape[0] / scene.truth.shape[1]
        name = f"{scene.part}\n{scene.stem}"
        row[0].set_ylabel(name, fontsize=min(8, 1.6 * points / max(len(scene.stem), 6)))
        row[-maps].imshow(painted(scene.truth, scene.truth, info), interpolation="none")
        for axes, method in zip(row[1 - maps :], methods, strict=True):
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
    titles = (*(["image"] if photos else []), "truth", *methods.values())
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title)
    _gallery_legend(part, scenes, info, width=_CELL * grid.shape[1])


def classes_seen(scenes: Sequence[Scene], info: Mapping) -> tuple[dict[str, tuple], bool]:
    """Colours by name of the classes in these scenes, and whether some pixel is void."""
    maps = [array for scene in scenes for array in (scene.truth, *scene.predictions.values())]
    seen = set().union(*(np.unique(array).tolist() for array in maps))
    pairs = enumerate(zip(info["classes"], info["palette"], strict=True))
    colours = {name: tuple(colour) for index, (name, colour) in pairs if index in seen}
    return colours, info["ignore_index"] in seen


def _gallery_legend(part: SubFigure, scenes: Sequence[Scene], info: Mapping, width: float) -> None:
    colours, void = classes_seen(scenes, info)
    handles = [
        Patch(facecolor=fixed(colour), edgecolor="0.5", linewidth=0.5, label=name)
        for name, colour in colours.items()
    ]
    if void:
        handles.append(Patch(facecolor="w", edgecolor="k", hatch="/////", lw=0, label="void"))
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(len(handles), int(width / (0.5 + 0.07 * longest))))
    part.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8)


def predictions(material: Material) -> Section:
    """The gallery."""
    study = material.study
    methods = labels(study, control=False)
    reasons = {
        name: dataset.card.withheld_images
        for name, dataset in study.datasets.items()
        if dataset.card.withheld_images
    }
    panels = {key: shown.scenes for key, shown in material.gallery.items() if shown.scenes}
    without = [
        Text(
            f"{' / '.join(key)}: no predictions are kept here. Evaluating the runs of seed "
            f"{study.file.seeds[0]} again gives them."
        )
        for key in material.gallery
        if key not in panels and study.file.evaluation.gallery
    ]
    without += [
        Text(f"The images of {name} are not shown: {reason.strip()}")
        for name, reason in reasons.items()
    ]
    if not panels:
        return Section("Predictions", without or [Text("The study shows no images.")])
    split, withheld = study.file.evaluation.split, reasons.keys()
    chosen = "; ".join(_chosen(*item, split) for item in material.gallery.items() if item[1].scenes)
    drawing = Drawing(
        "gallery",
        gallery_figure(panels, material.data, methods, withheld),
        f"Images of the {split} split, each with its truth and the prediction of "
        f"{listed(methods)}.",
        "The images with the best, median and worst mean IoU, an image's own over the classes in "
        f"its truth, averaged over {listed(methods)} ({chosen}). With each prediction stands its "
        "own. Striped pixels, where there are any, are void and count nowhere.",
    )
    rows: list[tuple[str, list]] = []
    legend: dict[str, tuple] = {}
    for (dataset, model), scenes in panels.items():
        info = material.data[dataset]
        where = f"{dataset} / {model}, " if len(panels) > 1 else ""
        for scene in scenes:
            pictures = _pictures(scene, info, methods)
            shown = pictures[1:] if dataset in reasons else pictures
            rows.append((f"{where}{scene.part}: {scene.stem}", shown))
        legend |= classes_seen(scenes, info)[0]
    return Section("Predictions", [Pictures(drawing, rows, legend), *without])


def _chosen(key: Panel, shown: ShownScenes, split: str) -> str:
    words = f"{' / '.join(key)}: seed {shown.seed}, {len(shown.scenes)} of "
    if shown.ranked == shown.images:
        return f"{words}all {shown.images} images of the {split} split"
    return (
        f"{words}those {shown.ranked} whose predictions were kept, of {shown.images} images of the "
        f"{split} split"
    )


def _pictures(scene: Scene, info: Mapping, methods: Mapping[str, str]) -> list[Picture]:
    def map_of(ids: Any, title: str, alternative: str) -> Picture:
        return Picture(style.painted(ids, scene.truth, info), title, alternative)

    pictures = [
        Picture(scene.image, "image", f"Image {scene.stem}", photo=True),
        map_of(scene.truth, "truth", f"Classes in the truth of {scene.stem}"),
    ]
    for method, label in methods.items():
        if method in scene.predictions:
            score = f"{scene.scores[method]:.1f} %"
            pictures.append(
                map_of(
                    scene.predictions[method],
                    f"{label}: mIoU {score}",
                    f"Classes that {label} predicts for {scene.stem}, mean IoU {score}",
                )
            )
    return pictures
