"""What a report says before all sections: what is missing, the study's kind, what ails its data."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.base.remarks import remarks
from pipelines.rendering.parts import Text
from pipelines.report.material import KINDS, Material, incomplete
from pipelines.report.sections.answer import answer
from pipelines.study import Run, Study


def lead(material: Material) -> list[Text]:
    """The answer, what is missing, what kind of study this is, and its question."""
    study = material.study
    kind, meaning = KINDS[study.file.kind]
    if study.file.kind == "fixed-budget":
        claims = "its claims hold for that budget alone."
        meaning += claims if study.file.claims else "makes no claim of reproduction."
    told = answer(material)
    words = [
        *_missing(study, material.runs),
        *([told] if told else []),
        f"> **{kind}:** {meaning}",
        *_data(material),
    ]
    return [Text(text) for text in (*words, study.file.description.strip())]


def _data(material: Material) -> list[str]:
    said = [
        f"- {name}: {remark}" for name, info in material.data.items() for remark in remarks(info)
    ]
    return ["> **Data:** not all of it is as it should be.", "\n".join(said)] if said else []


def _missing(study: Study, runs: Sequence[Run]) -> list[str]:
    missing = [run.name for run in study.runs if run not in runs]
    if not missing:
        return []
    return [
        f"> **{incomplete(study, runs)}** Nothing is judged, and what is answered by a test "
        "(features, the long tail, drift, anchors) follows with the last run. Missing:",
        "\n".join(f"- `{name}`" for name in missing),
    ]
