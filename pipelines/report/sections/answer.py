"""The answer to a study's question, in one sentence with numbers."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pipelines.base.frames import KEYS
from pipelines.rendering.numbers import cell, in_words
from pipelines.report.material import Material, labels
from pipelines.report.sections.gain import arms, gain_table


def answer(material: Material) -> str:
    """A sentence a data set and model; empty where no method can be compared with the baseline.

    It is about the first method after the baseline, and about what its pull adds where it has a
    twin without. What it says is described; what was claimed and judged follows it.
    """
    study, found = material.study, material.comparison
    methods = labels(study, control=False)
    others = [name for name in methods if name != study.file.baseline]
    twins = {whole: twin for whole, twin in arms(study)}
    main = next((name for name in others if name in twins), next(iter(others), None))
    if main is None:
        return ""
    scores = found.summary[found.summary["metric"] == "mIoU"].set_index(KEYS)
    differences = found.paired[found.paired["metric"] == "mIoU"].set_index(KEYS)
    steps = gain_table(study, found.runs)
    steps = steps[(steps["metric"] == "mIoU") & (steps["step"] == "pull added to it")]
    pulls = steps.set_index(KEYS)
    sentences = []
    for dataset in study.datasets:
        for model in study.models:
            key, base = (dataset, model, main), (dataset, model, study.file.baseline)
            if key not in differences.index:
                continue
            sentence = (
                f"On {study.datasets[dataset].card.title} with `{model}`, {methods[main]} has "
                f"**{_score(scores.loc[key])} % mIoU** against {_score(scores.loc[base])} % of "
                f"{methods[study.file.baseline]}: **{_difference(differences.loc[key])}**"
            )
            if key in pulls.index:
                pull = pulls.loc[key]
                sentence += (
                    f"; of that the pull to semantic anchors adds {_difference(pull)} to "
                    f"{methods[twins[main]]}"
                )
            sentences.append(f"{sentence}{_judged(found.claims, dataset, model)}.")
    return " ".join(sentences)


def _score(row: Any) -> str:
    return cell(row["mean"], row["std"])


def _difference(row: Any) -> str:
    mean = cell(row["mean_difference"], row["std_difference"], signed=True)
    pairs = "1 pair" if row["n"] == 1 else f"{row['n']} pairs"
    return f"{mean} points over {pairs}{in_words(row['low'], row['high'])}"


def _judged(claims: pd.DataFrame, dataset: str, model: str) -> str:
    """What became of the claims about this data set and model."""
    here = claims[(claims["dataset"] == dataset) & (claims["model"] == model)]
    if here.empty:
        return " (described: the study claimed nothing before its runs)"
    counts = here["verdict"].value_counts(sort=False)
    told = ", ".join(f"{number} {verdict}" for verdict, number in counts.items())
    return f" (of {len(here)} claim{'s' * (len(here) > 1)} made before the runs: {told})"
