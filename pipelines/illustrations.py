"""The sections of a report that are looked at: classes, predictions, features, curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipelines import analysis, figures, tables
from pipelines.embedding import Embedding, embed
from pipelines.gallery import Panel, Scene, Shown
from pipelines.pages import PAIRED, Material, labels
from pipelines.sections import Drawing, Picture, Pictures, Section, Table, Text, run_anchor


def classes(material: Material) -> Section:
    study, found = material.study, material.comparison
    methods = labels(study, control=False)
    by_class = tables.per_class_table(found.summary, found.paired, methods, material.data)
    caption = (
        "From the most to the least frequent class in training, in percent, mean ± sample standard "
        f"deviation over seeds; {PAIRED}."
    )
    parts: list = [
        Drawing(
            "per_class",
            figures.per_class_figure(by_class, methods),
            f"IoU of each class with {_listed(methods)}, from the most to the least frequent class "
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
                tables.shown_per_class(panel, methods),
                f"**{dataset} / {model}.** {caption}",
                [anchors] * len(panel),
                strong=tables.class_winners(panel, found.claims, methods),
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
        name: sorted(info["classes"], key=lambda name, share=info["pixel_share"]: -share[name])
        for name, info in material.data.items()
    }
    base = methods[study.file.baseline]
    return [
        Drawing(
            "confusion",
            figures.confusion_figure(drawn, names, study.file.baseline, others),
            f"Confusion matrix of {_listed(others)} minus that of {base}. "
            + " ".join(_most_moved(drawn, study.file.baseline, others)),
            f"Confusion matrices, {_listed(others)} minus {base}: how many points more of a "
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


def predictions(material: Material) -> Section:
    """The gallery."""
    study = material.study
    methods = labels(study, control=False)
    panels = {key: shown.scenes for key, shown in material.gallery.items() if shown.scenes}
    without = [
        Text(
            f"{' / '.join(key)}: no predictions are kept here. Evaluating the runs of seed "
            f"{study.file.seeds[0]} again gives them."
        )
        for key in material.gallery
        if key not in panels and study.file.evaluation.gallery
    ]
    if not panels:
        return Section("Predictions", without or [Text("The study shows no images.")])
    split = study.file.evaluation.split
    chosen = "; ".join(_chosen(*item, split) for item in material.gallery.items() if item[1].scenes)
    drawing = Drawing(
        "gallery",
        figures.gallery_figure(panels, material.data, methods),
        f"Images of the {split} split, each with its truth and the prediction of "
        f"{_listed(methods)}.",
        "The images with the best, median and worst mean IoU, an image's own over the classes in "
        f"its truth, averaged over {_listed(methods)} ({chosen}). With each prediction stands its "
        "own. Striped pixels, where there are any, are void and count nowhere.",
    )
    rows, legend = [], {}
    for (dataset, model), scenes in panels.items():
        info = material.data[dataset]
        where = f"{dataset} / {model}, " if len(panels) > 1 else ""
        rows += [(f"{where}{s.part}: {s.stem}", _pictures(s, info, methods)) for s in scenes]
        legend |= figures.classes_seen(scenes, info)[0]
    return Section("Predictions", [Pictures(drawing, rows, legend), *without])


def _chosen(key: Panel, shown: Shown, split: str) -> str:
    words = f"{' / '.join(key)}: seed {shown.seed}, {len(shown.scenes)} of "
    if shown.ranked == shown.images:
        return f"{words}all {shown.images} images of the {split} split"
    return (
        f"{words}those {shown.ranked} whose predictions were kept, of {shown.images} images of the "
        f"{split} split"
    )


def _pictures(scene: Scene, info: Mapping, methods: Mapping[str, str]) -> list[Picture]:
    def map_of(ids: Any, title: str, alternative: str) -> Picture:
        return Picture(figures.painted(ids, scene.truth, info), title, alternative)

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


def features(material: Material) -> Section | None:
    """The feature spaces in the plane; None where no run has kept enough of its features."""
    methods = labels(material.study, control=False)
    panels: dict[Panel, dict[str, Embedding]] = {}
    for key, runs in material.shown.items():
        for run in runs:
            found = embed(analysis.read(run.output("evaluate", "analysis.npz")))
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
        figures.embedding_figure(panels, material.data, methods),
        f"Scatter plots of sampled pixels by class: {counts}. It is a picture to look at; what it "
        "may suggest is no measurement.",
        "t-SNE of pixel features, those that the model classifies, in the colours of their true "
        f"classes; runs of seed {', '.join(map(str, sorted(seeds)))}. As many pixels of each class "
        "as it has, up to one number for all; every run stands in a plane of its own. Stars are "
        "semantic anchors, embedded together with the pixels. Which points lie together means "
        "something; the sizes of groups and the distances between far ones do not.",
    )
    return Section("Features", [drawing])


def curves(material: Material) -> Section:
    everything = labels(material.study, control=False) | labels(material.study, control=True)
    drawing = Drawing(
        "curves",
        figures.curves_figure(material.comparison.curves, everything),
        f"Training curves of {_listed(everything)} over the iterations.",
        "Mean over seeds, band of one sample standard deviation. The total loss holds each "
        "method's own terms and is no ground for comparison.",
    )
    return Section("Training curves", [drawing])


def _listed(names: Mapping[str, str]) -> str:
    *first, last = names.values()
    return f"{', '.join(first)} and {last}" if first else last
