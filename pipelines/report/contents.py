"""All that a report says, in order, and its files: the one place where its sections are joined."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pipelines.analyse.analyses import Analyses
from pipelines.base.frames import write_csv
from pipelines.compare.comparison import Comparison
from pipelines.rendering import files, html, markdown, style
from pipelines.rendering.parts import Report, Section
from pipelines.report import gallery
from pipelines.report.findings import findings
from pipelines.report.gallery import Panel
from pipelines.report.material import Material, incomplete, labels
from pipelines.report.sections import (
    claims,
    classes,
    comparison,
    controls,
    cost,
    curves,
    features,
    gain,
    lead,
    predictions,
    provenance,
    published_numbers,
    recipe,
    sweep,
)
from pipelines.study import Run, Study, made


def shown_runs(study: Study, runs: Sequence[Run]) -> dict[Panel, list[Run]]:
    """For each data set and model, the compared methods' runs of the seed that is looked at."""
    methods = list(labels(study, control=False))
    return {
        (dataset, model): gallery.runs_to_show(
            [r for r in runs if (r.dataset.name, r.model) == (dataset, model)],
            methods,
            study.file.seeds,
        )
        for dataset in study.datasets
        for model in study.models
    }


def sections(material: Material) -> list[Section]:
    """All that the report says, in order."""
    found = material.comparison
    lacking = incomplete(material.study, material.runs)
    every = [
        comparison.comparison(material),
        gain.section(material),
        sweep.section(material),
        claims.claims(material),
        controls.controls(material),
        *published_numbers.sections(material.study, material.comparison.summary),
        classes.classes(material),
        predictions.predictions(material),
        features.features(material),
        *([] if lacking else findings(material.study, material.analyses, found.curves)),
        curves.curves(material),
        recipe.recipe(material),
        cost.section(material),
        *provenance.sections(material.study, material.runs),
    ]
    return [section for section in every if section is not None]


def write_files(
    study: Study, runs: Sequence[Run], comparison: Comparison, analyses: Analyses, folder: Path
) -> None:
    """Write all files of the report on these finished runs into `folder`."""
    shown = shown_runs(study, runs)
    earlier = [study.output("report", "gallery.npz"), study.published / "gallery.npz"]
    images = gallery.collect(shown, study.file.evaluation.gallery, earlier)
    gallery.write(images, folder / "gallery.npz")
    datasets = {run.dataset.name: run.dataset for run in runs}
    data = {name: made.info(dataset) for name, dataset in datasets.items()}
    material = Material(study, runs, comparison, analyses, data, images, shown)
    with style.drawing():
        content = Report(study.file.title, lead.lead(material), sections(material))
        files.write(content, folder)
    _write(folder / "report.md", markdown.render(content))
    _write(folder / "index.html", html.render(content, folder))
    for name, table in whole_tables(material).items():
        write_csv(table, folder / f"{name}.csv")
    for suffix in ("md", "tex"):
        shutil.copyfile(folder / f"tables/comparison.{suffix}", folder / f"table.{suffix}")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def whole_tables(material: Material) -> dict[str, pd.DataFrame]:
    """The tables of the whole study as data, by the stem of their files beside the page."""
    study, found = material.study, material.comparison
    methods = labels(study, control=False)
    return {
        "table": comparison.comparison_table(found.summary, found.paired, methods),
        "per_class": classes.per_class_table(found.summary, found.paired, methods, material.data),
        "claims": found.claims,
    }
