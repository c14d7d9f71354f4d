"""The answers of the analyses, as sections of the report."""

from __future__ import annotations

import pandas as pd

from pipelines.analyse.analyses import Analyses
from pipelines.rendering.parts import Section, Text
from pipelines.report.material import labels
from pipelines.report.sections import anchors, compactness, drift, long_tail
from pipelines.study import Study

_WHY = {
    "Compactness and separability": "no run has the features of two classes",
    "The long tail": "no run has scores",
    "Prototype drift": "it takes two seeds of one method with features",
    "Anchors over time": "no run has a log of semantic anchors: no method here trains any",
}
"""What a section is missing, when there is nothing to tell."""


def findings(study: Study, analyses: Analyses, curves: pd.DataFrame | None = None) -> list[Section]:
    """The sections, each with its answer, or with the reason why it has none.

    A function of the tables alone. Draw, and save the drawings, inside `style.drawing()`.

    Args:
        curves: as compare writes them, for what a method's losses were over time.
    """
    tables, methods, baseline = analyses.tables, labels(study), study.file.baseline
    sections = {
        "Compactness and separability": compactness.section(tables, methods, baseline),
        "The long tail": long_tail.section(tables, methods, baseline),
        "Prototype drift": drift.section(tables, methods, baseline),
        "Anchors over time": anchors.section(tables, methods, curves),
    }
    left_out = _left_out(analyses)
    shown = [
        section or Section(title, [Text(f"Nothing can be told: {_WHY[title]}.{left_out}")])
        for title, section in sections.items()
    ]
    first = shown[0]
    if sections[first.title] is not None and left_out:
        shown[0] = Section(first.title, [*first.parts, Text(left_out.strip())])
    return shown


def _left_out(analyses: Analyses) -> str:
    rows = analyses.tables["left_out"]
    lines = [
        f"{part} of {len(found)} run{'s' if len(found) > 1 else ''} ({reason})"
        for (part, reason), found in rows.groupby(["part", "reason"], sort=False)
    ]
    return f" Left out: {'; '.join(lines)}." if lines else ""
