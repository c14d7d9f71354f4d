"""What a report says before all sections."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.rendering.parts import Text
from pipelines.report.material import KINDS, Material
from pipelines.study import Run, Study


def lead(material: Material) -> list[Text]:
    """What comes before all sections: what is missing, what kind of study this is, its question."""
    study = material.study
    kind, meaning = KINDS[study.file.kind]
    if study.file.kind == "fixed-budget":
        claims = "its claims hold for that budget alone."
        meaning += claims if study.file.claims else "makes no claim of reproduction."
    words = [*_missing(study, material.runs), f"> **{kind}:** {meaning}"]
    return [Text(text) for text in (*words, study.file.description.strip())]


def _missing(study: Study, runs: Sequence[Run]) -> list[str]:
    missing = [run.name for run in study.runs if run not in runs]
    if not missing:
        return []
    return [
        f"> **Partial report:** {len(missing)} of {len(study.runs)} runs are missing, and "
        "everything below is made without them.",
        "\n".join(f"- `{name}`" for name in missing),
    ]
