"""All answers of the analyses, as sections of the report."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.analyse import Analyses
from pipelines.analyses import anchors, compactness, cost, drift, long_tail
from pipelines.sections import Section, Text
from pipelines.study import Run, Study

_WHY = {
    "Compactness and separability": "no run has the features of two classes",
    "The long tail": "no run has scores",
    "Prototype drift": "it takes two seeds of one method with features",
    "Anchors over time": "no run has a log of semantic anchors: no method here trains any",
}
"""What a section is missing, when there is nothing to tell."""


def findings(study: Study, analyses: Analyses) -> list[Section]:
    """The sections, each with its answer, or with the reason why it has none.

    A function of the tables alone. Draw, and save the drawings, inside `figures.drawing()`.
    """
    tables, methods, baseline = analyses.tables, labels(study), study.file.baseline
    sections = {
        "Compactness and separability": compactness.section(tables, methods, baseline),
        "The long tail": long_tail.section(tables, methods, baseline),
        "Prototype drift": drift.section(tables, methods, baseline),
        "Anchors over time": anchors.section(tables, methods),
    }
    left_out = _left_out(analyses)
    told = [
        section or Section(title, [Text(f"Nothing can be told: {_WHY[title]}.{left_out}")])
        for title, section in sections.items()
    ]
    first = told[0]
    if sections[first.title] is not None and left_out:
        told[0] = Section(first.title, [*first.parts, Text(left_out.strip())])
    return told


def costs(study: Study, runs: Sequence[Run]) -> Section:
    """The section on time, memory and parameters of these finished runs; not reproducible."""
    return cost.section(study, runs, labels(study))


def labels(study: Study) -> dict[str, str]:
    """Labels of all methods by name: the baseline, the compared ones, the controls."""
    methods = study.file.methods
    order = sorted(methods, key=lambda name: (name != study.file.baseline, methods[name].control))
    return {name: methods[name].label for name in order}


def _left_out(analyses: Analyses) -> str:
    rows = analyses.tables["left_out"]
    lines = [
        f"{part} of {len(found)} run{'s' if len(found) > 1 else ''} ({reason})"
        for (part, reason), found in rows.groupby(["part", "reason"], sort=False)
    ]
    return f" Left out: {'; '.join(lines)}." if lines else ""
