"""Controls: runs that ask a question about the comparison, in the same form."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.compare.statistics import paired_differences
from pipelines.rendering.parts import Part, Section, Text
from pipelines.rendering.yaml import yaml_inline
from pipelines.report.material import Material, labels
from pipelines.report.sections.comparison import (
    compared_table,
    comparison_table,
    difference_sentences,
)
from pipelines.study import Study


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
    parts += difference_sentences(study, table)
    for plain, alike in _trained_alike(study, methods).items():
        chosen = found.runs[found.runs["method"].isin([plain, *alike])]
        pairs = paired_differences(chosen, plain)
        told = difference_sentences(study, comparison_table(found.summary, pairs, alike), plain)
        if told:
            parts += [Text("Compared with the control that trains alike, without a method:"), *told]
    return Section("Controls", parts)


def _trained_alike(study: Study, methods: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """For each control without a plug-in those with one that train like it, with their labels."""
    specs = study.file.methods
    return {
        plain: {
            name: label
            for name, label in methods.items()
            if specs[name].plugin is not None and specs[name].training == specs[plain].training
        }
        for plain in methods
        if specs[plain].plugin is None
    }
