"""Controls: runs that ask a question about the comparison, in the same form."""

from __future__ import annotations

from pipelines.rendering.parts import Part, Section, Text
from pipelines.rendering.yaml import yaml_inline
from pipelines.report.material import Material, labels
from pipelines.report.sections.comparison import (
    compared_table,
    comparison_table,
    difference_sentences,
)


def controls(material: Material) -> Section | None:
    """None where the study has none."""
    study, found = material.study, material.comparison
    methods = labels(study, control=True)
    table = comparison_table(found.summary, found.paired, methods)
    if table.empty:
        return None
    overrides = [
        f"- {label}: {yaml_inline(study.file.methods[name].training)}"
        for name, label in methods.items()
        if study.file.methods[name].training
    ]
    parts: list[Part] = [
        Text("Controls ask a question about the comparison and take no part in it.")
    ]
    if overrides:
        parts.append(Text("\n".join(["What they train with differently:\n", *overrides])))
    parts.append(
        compared_table("controls", table, "Scores of the controls, as above.", found.claims)
    )
    return Section("Controls", [*parts, *difference_sentences(study, table)])
