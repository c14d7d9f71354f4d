"""The recipe: what the runs were trained with."""

from __future__ import annotations

from pipelines.base.receipts import read_receipt
from pipelines.rendering.parts import Section, Text
from pipelines.rendering.yaml import yaml_text
from pipelines.report.material import Material
from pipelines.study import Study


def recipe(material: Material) -> Section:
    study, file = material.study, material.study.file
    differing = {"plugin", "options", "training", "seeds"}
    methods = {
        name: {"label": method.label} | method.model_dump(include=differing, exclude_defaults=True)
        for name, method in file.methods.items()
    }
    facts = [
        *(f"- data set `{name}`: {d.card.title}" for name, d in study.datasets.items()),
        *(
            f"- model `{name}`: {entry.title}; {_start(study, name)}{_computed(material, name)}"
            for name, entry in study.models.items()
        ),
        f"- seeds: {', '.join(map(str, file.seeds))}",
        f"- threads a run: {file.threads}",
    ]
    words = [
        "\n".join(facts),
        "Shared by all methods, except where one of them overrides it:",
        f"```yaml\n{yaml_text({'training': file.training.model_dump(exclude_none=True)})}```",
        *_overrides(study),
        f"```yaml\n{yaml_text({'methods': methods})}```",
    ]
    return Section("Recipe", [Text("\n\n".join(words))])


def _start(study: Study, model: str) -> str:
    """What the training of a model starts from."""
    weights = study.weights.get(model)
    if weights is None:
        left = study.models[model].pretrained
        instead = "" if left is None else f", not from the published `{left.file}`"
        return f"trained from scratch: the backbone starts from random weights{instead}"
    return (
        f"the backbone starts from the published weights `{weights.pretrained.file}`, "
        f"sha256 `{weights.pretrained.sha256}`"
    )


def _computed(material: Material, model: str) -> str:
    """In what numbers a model was trained, where that is not plain float32."""
    entry = material.study.models[model]
    said = [] if entry.precision in ("float32", "auto") else [f"; trained in {entry.precision}"]
    chosen: dict[str, None] = {}
    for run in material.runs:
        if run.model == model:
            found = read_receipt(run.output("train", "receipt.json")).chosen
            told = (
                f"{key} {str(value).lower()}" for key, value in sorted(found.items(), reverse=True)
            )
            chosen[", ".join(told)] = None
    chosen.pop("", None)
    if chosen:
        said.append(f"; trained with {' and with '.join(chosen)}, as the machine chose (`auto`)")
    return "".join(said)


def _overrides(study: Study) -> list[str]:
    if not study.file.overrides:
        return []
    overrides = {
        name: override.model_dump(exclude_defaults=True)
        for name, override in study.file.overrides.items()
    }
    return [
        "Of some data sets and models, for all methods, merged in this order:",
        f"```yaml\n{yaml_text({'overrides': overrides})}```",
    ]
