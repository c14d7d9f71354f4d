"""What a report says about a study's scores, section by section.

The sections that are made of drawings stand in `pipelines.illustrations`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from pipelines import tables
from pipelines.analyse import Analyses
from pipelines.claims import ALPHA, RULE
from pipelines.compare import Comparison
from pipelines.gallery import Gallery, Panel
from pipelines.sections import Section, Table, Text, Verdict, Verdicts, run_anchor
from pipelines.study import Run, Study

_KINDS = {
    "fixed-budget": (
        "Fixed-budget comparison",
        "all methods are compared after the same number of iterations, converged or not. It shows "
        "how far they get on an equal budget and ",
    ),
    "plateau": (
        "Trained to the plateau",
        "training went on until more of it should change little; the training curves, and the "
        "controls where the study has them, show whether that is so.",
    ),
    "tuning": (
        "Tuning on val",
        "these runs choose hyper-parameters. Their scores favour whatever was chosen and are no "
        "result.",
    ),
}

PAIRED = "difference to the baseline, paired by seed"


@dataclass(frozen=True)
class Material:
    """All that a report is made of."""

    study: Study
    runs: Sequence[Run]
    """Those that are finished."""
    comparison: Comparison
    analyses: Analyses
    data: Mapping[str, Mapping[str, Any]]
    """For each data set the contents of its info.json."""
    gallery: Gallery
    shown: Mapping[Panel, Sequence[Run]]
    """For each data set and model, the compared methods' runs of the seed that is looked at."""


def labels(study: Study, *, control: bool) -> dict[str, str]:
    """Labels by method: of the compared methods, the baseline first, or of the controls."""
    methods = study.file.methods
    chosen = [name for name, method in methods.items() if method.control == control]
    chosen.sort(key=lambda name: name != study.file.baseline)
    return {name: methods[name].label for name in chosen}


def lead(material: Material) -> list[Text]:
    """What comes before all sections: what is missing, what kind of study this is, its question."""
    study = material.study
    kind, meaning = _KINDS[study.file.kind]
    if study.file.kind == "fixed-budget":
        claims = "its claims hold for that budget alone."
        meaning += claims if study.file.claims else "makes no claim of reproduction."
    words = [*_missing(study, material.runs), f"> **{kind}:** {meaning}"]
    return [Text(text) for text in (*words, study.file.description.strip())]


def whole_tables(material: Material) -> dict[str, pd.DataFrame]:
    """The tables of the whole study as data, by the stem of their files beside the page."""
    study, found = material.study, material.comparison
    methods = labels(study, control=False)
    return {
        "table": tables.comparison_table(found.summary, found.paired, methods),
        "per_class": tables.per_class_table(found.summary, found.paired, methods, material.data),
        "claims": found.claims,
    }


def comparison(material: Material) -> Section:
    study, found = material.study, material.comparison
    table = tables.comparison_table(found.summary, found.paired, labels(study, control=False))
    kind, _ = _KINDS[study.file.kind]
    caption = (
        f"{kind}, study `{study.name}`: scores "
        f"on the {study.file.evaluation.split} split after {_iterations(study)} "
        "iterations, in percent, mean ± sample standard deviation over seeds; "
        f"mIoU {PAIRED}, in points, with the 95 % BCa bootstrap interval of its mean, which is "
        f"too narrow where seeds are few. {_multi_scale(study)}{_tested(study)}"
    )
    shown = _compared("comparison", table, caption, found.claims)
    return Section("Comparison", [shown, *_differences(study, table)])


def _compared(name: str, table: pd.DataFrame, caption: str, claims: pd.DataFrame) -> Table:
    shown = tables.shown_comparison(table)
    own = ["method", *tables.headings(table)]
    anchors = [
        dict.fromkeys(own, run_anchor(row.dataset, row.model, row.method))
        for row in table.itertuples()
    ]
    return Table(name, table, shown, caption, anchors, strong=tables.winners(table, claims))


def _multi_scale(study: Study) -> str:
    """What the column multi-scale is, where there is one; ends in a space."""
    views = {
        f"scales {', '.join(f'{scale:g}' for scale in views.scales)}"
        + (", each also mirrored" if views.flip else "")
        for run in study.runs
        if (views := run.evaluation.multi_scale) is not None
    }
    if not views:
        return ""
    return (
        "Multi-scale: mIoU of the same weights, class probabilities averaged over "
        f"{'; or '.join(sorted(views))}; all other columns are single-scale. "
    )


def _iterations(study: Study) -> str:
    """How long the compared methods train: one number, or those of each data set and model."""
    places: dict[int, set[tuple[str, str]]] = {}
    for run in study.runs:
        if not run.spec.control:
            place = (run.dataset.name, run.model)
            places.setdefault(run.training.iterations, set()).add(place)
    if len(places) == 1:
        return str(*places)
    pairs = [(dataset, model) for dataset in study.datasets for model in study.models]
    return ", ".join(
        f"{iterations} ({_places(study, [pair for pair in pairs if pair in here])})"
        for iterations, here in places.items()
    )


def _places(study: Study, pairs: Sequence[tuple[str, str]]) -> str:
    """Pairs of data set and model in words, whole data sets by their name alone."""
    words = []
    for dataset in study.datasets:
        models = [model for name, model in pairs if name == dataset]
        if len(models) == len(study.models):
            words.append(dataset)
        elif models:
            words.append(f"{dataset} with {', '.join(models)}")
    return "; ".join(words)


def _tested(study: Study) -> str:
    if not study.file.claims:
        return "No significance test is made."
    return (
        "Nothing here is tested but what the study claimed before its runs: see its report. "
        "The best score is bold where such a claim is reproduced."
    )


def _missing(study: Study, runs: Sequence[Run]) -> list[str]:
    missing = [run.name for run in study.runs if run not in runs]
    if not missing:
        return []
    return [
        f"> **Partial report:** {len(missing)} of {len(study.runs)} runs are missing, and "
        "everything below is made without them.",
        "\n".join(f"- `{name}`" for name in missing),
    ]


def _differences(study: Study, table: pd.DataFrame) -> list[Text]:
    """One sentence a method, with its numbers and no adjective."""
    base = study.file.methods[study.file.baseline].label
    several = len(study.datasets) * len(study.models) > 1
    sentences = []
    for row in table[table["pairs"] > 0].itertuples():
        where = f" ({row.dataset}, {row.model})" if several else ""
        difference = tables.cell(row.difference_mean, row.difference_std, signed=True)
        seeds = "1 seed" if row.pairs == 1 else f"{row.pairs} paired seeds"
        within = _within(row.difference_low, row.difference_high)
        sentences.append(
            f"{row.label} minus {base}{where}: mIoU {difference} points over {seeds}{within}; "
            f"{row.label} has the higher mIoU in {row.wins} of {row.pairs}."
        )
    return [Text("\n".join(f"- {sentence}" for sentence in sentences))] if sentences else []


def claims(material: Material) -> Section:
    study, found = material.study, material.comparison.claims
    if found.empty:
        words = (
            "The study file made no claims before the runs, so nothing is tested: the differences "
            "above describe these runs."
        )
        return Section("Claims", [Text(words)])
    names = {name: method.label for name, method in study.file.methods.items()}
    rules = "\n".join(f"- *{verdict}*: {rule}" for verdict, rule in RULE.items())
    caption = (
        "What the study file claimed before the runs, each judged by the rule below. Differences "
        "are in points, paired by seed: mean ± sample standard deviation, 95 % BCa bootstrap "
        "interval of the mean, p of the exact two-sided sign-flip test, and the same after Holm's "
        f"correction over all {len(found)} tests of the study."
    )
    anchors = [run_anchor(row.dataset, row.model, row.method) for row in found.itertuples()]
    return Section(
        "Claims",
        [
            Verdicts([_verdict(row, names) for row in found.itertuples()]),
            *_too_few(found),
            Table("claims", found, tables.shown_claims(found, names), caption, anchors),
            Text(f"The rule, the same for every study:\n\n{rules}"),
        ],
    )


def _verdict(row: Any, names: Mapping[str, str]) -> Verdict:
    claimed = (
        f"claimed was {row.metric} of {names[row.method]} {row.direction} than that of "
        f"{names[row.against]}, by at least {row.margin:.2f} points"
    )
    found = f"{row.reason}"
    if not pd.isna(row.mean_difference):
        within = _within(row.low, row.high, decimals=2)
        mean = tables.cell(row.mean_difference, row.std_difference, signed=True, decimals=2)
        found = (
            f"Found: {mean} points over {row.n} pairs"
            f"{within}, p = {tables.p_value(row.p_holm)} after Holm: {row.reason}"
        )
    place = f"`{row.claim}` ({row.dataset}, {row.model})"
    return Verdict(place, row.verdict, claimed, found)


def _within(low: float, high: float, decimals: int | None = None) -> str:
    """What follows a mean difference in a sentence; nothing where there is no interval."""
    return "" if pd.isna(low) else f", 95 % interval {tables.interval(low, high, decimals)}"


def _too_few(claims: pd.DataFrame) -> list[Text]:
    """A warning for the claims that no outcome could have decided."""
    hopeless = claims[claims["p_smallest"] > ALPHA]
    if hopeless.empty:
        return []
    lines = [
        f"- `{row.claim}` ({row.dataset}, {row.model}): {row.pairs} pairs, p after Holm is never "
        f"below {row.p_smallest:.4f}"
        for row in hopeless.itertuples()
    ]
    return [
        Text(
            f"> **Too few seeds:** the sign-flip p of n pairs is never below 2/2^n, and Holm's "
            f"correction over {len(claims)} tests multiplies the least p by {len(claims)}. These "
            f"claims cannot reach {ALPHA}, whatever the runs give:"
        ),
        Text("\n".join(lines)),
    ]


def controls(material: Material) -> Section | None:
    """None where the study has none."""
    study, found = material.study, material.comparison
    methods = labels(study, control=True)
    table = tables.comparison_table(found.summary, found.paired, methods)
    if table.empty:
        return None
    overrides = [
        f"- {label}: {_inline(study.file.methods[name].training)}"
        for name, label in methods.items()
        if study.file.methods[name].training
    ]
    return Section(
        "Controls",
        [
            Text("Controls ask a question about the comparison and take no part in it."),
            *(
                [Text("\n".join(["What they train with differently:\n", *overrides]))]
                * bool(overrides)
            ),
            _compared("controls", table, "Scores of the controls, as above.", found.claims),
            *_differences(study, table),
        ],
    )


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
            f"- model `{name}`: {entry.title}; {_start(study, name)}"
            for name, entry in study.models.items()
        ),
        f"- seeds: {', '.join(map(str, file.seeds))}",
        f"- threads a run: {file.threads}",
    ]
    words = [
        "\n".join(facts),
        "Shared by all methods, except where one of them overrides it:",
        f"```yaml\n{_yaml({'training': file.training.model_dump(exclude_none=True)})}```",
        *_overrides(study),
        f"```yaml\n{_yaml({'methods': methods})}```",
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


def _overrides(study: Study) -> list[str]:
    if not study.file.overrides:
        return []
    overrides = {
        name: override.model_dump(exclude_defaults=True)
        for name, override in study.file.overrides.items()
    }
    return [
        "Of some data sets and models, for all methods, merged in this order:",
        f"```yaml\n{_yaml({'overrides': overrides})}```",
    ]


def _yaml(value: Any, *, inline: bool = False) -> str:
    stream = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = inline
    yaml.width = 10_000
    yaml.dump(value, stream)
    return stream.getvalue()


def _inline(value: dict[str, Any]) -> str:
    return f"`{_yaml(value, inline=True).strip()}`"
