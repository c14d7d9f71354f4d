"""The report's section on published numbers: beside ours, with the difference and both recipes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from pipelines.rendering import numbers
from pipelines.rendering.parts import Section, Table, Text
from pipelines.report.model_zoo import file_stem, zoo_results, zoo_source
from pipelines.study import REFERENCE, Run, Study
from pipelines.study.reference import Recipe, Result, read_reference

NOT_AVAILABLE = "not available"

_COLUMNS = [
    *("dataset", "model", "source", "label", "metric", "published"),
    *("method", "n", "mean", "std", "difference", "recipe", "url"),
]


def sections(study: Study, summary: pd.DataFrame) -> list[Section]:
    """Published results for the study's data sets, as far as any are known.

    Args:
        summary: means and deviations over seeds, as compare writes them.
    """
    rows = published_table(study, summary)
    silent = [name for name in study.datasets if name not in set(rows["dataset"])]
    parts: list[Text | Table] = []
    if silent:
        names = ", ".join(f"`{name}`" for name in silent)
        parts.append(
            Text(
                f"Published numbers for {names} with these models: {NOT_AVAILABLE}. Neither "
                f"`{REFERENCE}` nor mmsegmentation's model zoo has any."
            )
        )
    if not rows.empty:
        listed = rows[["source", "url"]].drop_duplicates().itertuples(index=False)
        parts.append(
            Table(
                name="published",
                data=rows,
                shown=_shown(rows, {n: m.label for n, m in study.file.methods.items()}),
                caption="Scores in percent, differences in points, ours minus published; ours is "
                "mean ± sample standard deviation over seeds. A difference says something only "
                f"where the recipes are the same. *{NOT_AVAILABLE.capitalize()}*: published, but "
                f"to be filled into `{REFERENCE}` by whoever has the source.",
            )
        )
        parts.append(
            Text("Sources:\n\n" + "\n".join(f"- {title}: <{url}>" for title, url in listed))
        )
    return [Section("Published numbers", parts)]


def published_table(study: Study, summary: pd.DataFrame) -> pd.DataFrame:
    """One row a published result and method of ours that it stands beside.

    Returns:
        Columns dataset, model (in the source's words), source (its title), label (its method),
        metric, published (NaN: not available), method (ours, "" where none is the same), n, mean,
        std, difference (mean minus published), recipe (how the two compare) and url.
    """
    reference = read_reference()
    sources = reference.sources | {"zoo": zoo_source()}
    results = [
        result
        for dataset in study.datasets
        for result in (
            *(r for model in study.models for r in zoo_results(reference, dataset, model)),
            *(r for r in reference.results if r.dataset == dataset and _concerns(study, r)),
        )
    ]
    scores = summary.set_index(["dataset", "model", "method", "metric"])
    rows = []
    for result in results:
        value = math.nan if result.value is None else result.value
        source = sources[result.source]
        theirs = (result.dataset, result.model, source.title, result.label, result.metric)
        runs: list[Run | None] = [*_ours(study, result)]
        for run in runs or [None]:
            ours: Mapping[str, Any] = {}
            method, compared = "", "another model"
            key = run and (run.dataset.name, run.model, run.method, result.metric)
            if run is not None and key in scores.index:
                ours, method = scores.loc[key], run.method
                compared = _compared(result.recipe, run)
            mean = ours.get("mean", math.nan)
            numbers = (ours.get("n", 0), mean, ours.get("std", math.nan), mean - value)
            rows.append((*theirs, value, method, *numbers, compared, source.url))
    return pd.DataFrame(rows, columns=_COLUMNS)


def _concerns(study: Study, result: Result) -> bool:
    return result.entry is None or result.entry in study.models


def _ours(study: Study, result: Result) -> list[Run]:
    """A run of each method of ours that is the published one."""
    chosen: dict[str, Run] = {}
    for run in study.runs:
        same = (run.dataset.name, run.model) == (result.dataset, result.entry)
        plain = run.method == study.file.baseline
        match = plain if result.plugin is None else run.spec.plugin == result.plugin
        if same and match and not run.spec.control:
            chosen.setdefault(run.method, run)
    return list(chosen.values())


def _compared(theirs: Recipe, run: Run) -> str:
    """ "same", or what differs and what the source does not state."""
    pairs = list(_pairs(theirs, run))
    differs = [
        f"{what} {_words(ours)} instead of {_words(published)}"
        for what, published, ours in pairs
        if published is not None and published != ours
    ]
    if run.study.file.image_scale != 1.0:
        differs.append(f"images at {run.study.file.image_scale:g} of their size")
    unknown = [what for what, published, _ in pairs if published is None]
    text = "; ".join(differs) or "same"
    return f"{text}; not stated: {', '.join(unknown)}" if unknown else text


def _pairs(theirs: Recipe, run: Run) -> Iterator[tuple[str, object, object]]:
    training, evaluation = run.training, run.evaluation
    start: str | None = "random weights"
    if run.weights is not None:
        start = file_stem(run.weights.pretrained.file)
    yield "iterations", theirs.iterations, training.iterations
    yield "batch", theirs.batch_size, training.batch_size
    yield "crop", theirs.crop_size, training.augmentation.crop_size or "of whole images"
    yield "start from", theirs.pretrained, start
    yield "test", theirs.mode, evaluation.mode
    yield "split", theirs.split, evaluation.split
    # Hardly a source says these; where none does, that is no news of one row.
    if theirs.seeds is not None:
        yield "seeds", theirs.seeds, len(run.spec.seeds or run.study.file.seeds)
    if theirs.checkpoint is not None:
        yield "checkpoint", theirs.checkpoint, "last"


def _words(value: object) -> str:
    return " x ".join(map(str, value)) if isinstance(value, list) else str(value)


def _shown(rows: pd.DataFrame, labels: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "data set": rows["dataset"],
            "model": rows["model"],
            "published by": [title.partition(",")[0] for title in rows["source"]],
            "method": rows["label"],
            "metric": rows["metric"],
            "published": [
                NOT_AVAILABLE if math.isnan(value) else f"{value:.2f}"
                for value in rows["published"]
            ],
            "our method": [labels.get(method, numbers.NOTHING) for method in rows["method"]],
            "ours": [numbers.cell(r.mean, r.std) for r in rows.itertuples()],
            "difference": [
                numbers.cell(value, math.nan, signed=True) for value in rows["difference"]
            ],
            "recipe": rows["recipe"],
        }
    )
