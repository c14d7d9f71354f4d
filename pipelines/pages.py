"""The words of a report: Markdown made of a study, its tables and nothing else."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from pipelines import tables
from pipelines.claims import ALPHA, RULE
from pipelines.compare import Comparison
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

_PAIRED = "difference to the baseline, paired by seed"


def labels(study: Study, *, control: bool) -> dict[str, str]:
    """Labels by method: of the compared methods, the baseline first, or of the controls."""
    methods = study.file.methods
    chosen = [name for name, method in methods.items() if method.control == control]
    chosen.sort(key=lambda name: name != study.file.baseline)
    return {name: methods[name].label for name in chosen}


def table_page(study: Study, table: pd.DataFrame) -> str:
    """The comparison table with a line that says what it holds, to stand on its own anywhere."""
    kind, _ = _KINDS[study.file.kind]
    return (
        tables.markdown(tables.shown_comparison(table)) + f"\n{kind}, study `{study.name}`: scores "
        f"on the {study.file.evaluation.split} split after {_iterations(study)} "
        "iterations, in percent, mean ± sample standard deviation over seeds; "
        f"mIoU {_PAIRED}, in points, with the 95 % BCa bootstrap interval of its mean, which is "
        f"too narrow where seeds are few. {_multi_scale(study)}{_tested(study)}\n"
    )


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
    return "Nothing here is tested but what the study claimed before its runs: see its report."


def report_page(
    study: Study,
    runs: Sequence[Run],
    comparison: Comparison,
    table: pd.DataFrame,
    by_class: pd.DataFrame,
    shown: Sequence[Run],
) -> str:
    """The whole page; it links to the figures and tables that lie beside it.

    Args:
        runs: the finished runs that the tables are made of.
        table, by_class: from `tables.comparison_table` and `tables.per_class_table`.
        shown: the runs whose predictions the gallery shows.
    """
    kind, meaning = _KINDS[study.file.kind]
    if study.file.kind == "fixed-budget":
        claims = "its claims hold for that budget alone."
        meaning += claims if study.file.claims else "makes no claim of reproduction."
    parts = [f"# {study.file.title}", *_missing(study, runs), f"> **{kind}:** {meaning}"]
    parts += [study.file.description.strip(), "## Comparison", table_page(study, table).strip()]
    parts += _differences(study, table)
    parts.append("Also as [CSV](table.csv) and [LaTeX](table.tex).")
    parts += _claims(study, comparison.claims)
    parts += _controls(study, comparison)
    parts += _classes(study, by_class)
    parts += [
        "## Predictions",
        "![Images of the split with their truth and each method's prediction](gallery.png)",
        _gallery_caption(study, shown),
        "## Training curves",
        "![Training curves of each method](curves.png)",
        "Mean over seeds, band of one sample standard deviation. The total loss holds each "
        "method's own terms and is no ground for comparison. Also as [SVG](curves.svg).",
        *_recipe(study),
    ]
    return "\n\n".join(parts) + "\n"


def _gallery_caption(study: Study, shown: Sequence[Run]) -> str:
    if not shown:
        return "None of the compared methods has a finished run."
    seeds = ", ".join(str(seed) for seed in sorted({run.seed for run in shown}))
    return (
        f"Images evenly spaced over the {study.file.evaluation.split} split, predicted by the runs "
        f"of seed {seeds}. Below each prediction: the mean IoU over the classes in that image's "
        "truth. Striped pixels, where there are any, are void and count nowhere. Also as "
        "[SVG](gallery.svg)."
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


def _differences(study: Study, table: pd.DataFrame) -> list[str]:
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
    return ["\n".join(f"- {sentence}" for sentence in sentences)] if sentences else []


def _claims(study: Study, claims: pd.DataFrame) -> list[str]:
    if claims.empty:
        return [
            "## Claims",
            "The study file made no claims before the runs, so nothing is tested: the differences "
            "above describe these runs.",
        ]
    names = {name: method.label for name, method in study.file.methods.items()}
    rules = "\n".join(f"- *{verdict}*: {rule}" for verdict, rule in RULE.items())
    return [
        "## Claims",
        "What the study file claimed before the runs, each judged by the rule below. Differences "
        "are in points, paired by seed: mean ± sample standard deviation, 95 % BCa bootstrap "
        "interval of the mean, p of the exact two-sided sign-flip test, and the same after Holm's "
        f"correction over all {len(claims)} tests of the study.",
        tables.markdown(tables.shown_claims(claims, names)).strip(),
        *_too_few(claims),
        "\n".join(_verdict(row, names) for row in claims.itertuples()),
        f"The rule, the same for every study:\n\n{rules}",
        "Also as [CSV](claims.csv).",
    ]


def _verdict(row: Any, names: Mapping[str, str]) -> str:
    place = f"`{row.claim}` ({row.dataset}, {row.model})"
    claimed = (
        f"claimed was {row.metric} of {names[row.method]} {row.direction} than that of "
        f"{names[row.against]}, by at least {row.margin:.2f} points"
    )
    if pd.isna(row.mean_difference):
        return f"- {place}: **{row.verdict}**; {claimed}. {row.reason}."
    within = _within(row.low, row.high)
    found = tables.cell(row.mean_difference, row.std_difference, signed=True)
    return (
        f"- {place}: **{row.verdict}**; {claimed}. Found: {found} points over {row.n} pairs"
        f"{within}, p = {tables.p_value(row.p_holm)} after Holm: {row.reason}."
    )


def _within(low: float, high: float) -> str:
    """What follows a mean difference in a sentence; nothing where there is no interval."""
    return "" if pd.isna(low) else f", 95 % interval {tables.interval(low, high)}"


def _too_few(claims: pd.DataFrame) -> list[str]:
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
        f"> **Too few seeds:** the sign-flip p of n pairs is never below 2/2^n, and Holm's "
        f"correction over {len(claims)} tests multiplies the least p by {len(claims)}. These "
        f"claims cannot reach {ALPHA}, whatever the runs give:",
        "\n".join(lines),
    ]


def _controls(study: Study, comparison: Comparison) -> list[str]:
    controls = labels(study, control=True)
    table = tables.comparison_table(comparison.summary, comparison.paired, controls)
    if table.empty:
        return []
    overrides = [
        f"- {label}: {_inline(study.file.methods[name].training)}"
        for name, label in controls.items()
        if study.file.methods[name].training
    ]
    return [
        "## Controls",
        "Controls ask a question about the comparison and take no part in it.",
        *(["\n".join(["What they train with differently:\n", *overrides])] if overrides else []),
        tables.markdown(tables.shown_comparison(table)).strip(),
        *_differences(study, table),
    ]


def _classes(study: Study, by_class: pd.DataFrame) -> list[str]:
    methods = labels(study, control=False)
    parts = ["## Classes", "![IoU of each class and method](per_class.png)"]
    parts.append(
        "From the most to the least frequent class in training, in percent, mean ± sample standard "
        f"deviation over seeds; {_PAIRED}. Also as [CSV](per_class.csv) and [SVG](per_class.svg)."
    )
    for (dataset, model), panel in by_class.groupby(["dataset", "model"], sort=False):
        parts.append(f"### {dataset} / {model}")
        means = [f"{method}_mean" for method in methods if f"{method}_mean" in panel]
        absent = panel.loc[panel[means].isna().all(axis=1), "class"].tolist() if means else []
        if absent:
            parts.append(
                f"The {study.file.evaluation.split} split has no labelled pixel of "
                f"{', '.join(absent)}: no score, and left out of every mean."
            )
        parts.append(tables.markdown(tables.shown_per_class(panel, methods)).strip())
    return parts


def _recipe(study: Study) -> list[str]:
    file = study.file
    differing = {"plugin", "options", "training", "seeds"}
    methods = {
        name: {"label": method.label} | method.model_dump(include=differing, exclude_defaults=True)
        for name, method in file.methods.items()
    }
    return [
        "## Recipe",
        "\n".join(
            [
                *(f"- data set `{name}`: {d.card.title}" for name, d in study.datasets.items()),
                *(f"- model `{name}`: {entry.title}" for name, entry in study.models.items()),
                f"- seeds: {', '.join(map(str, file.seeds))}",
                f"- threads a run: {file.threads}",
            ]
        ),
        "Shared by all methods, except where one of them overrides it:",
        f"```yaml\n{_yaml({'training': file.training.model_dump(exclude_none=True)})}```",
        *_overrides(study),
        f"```yaml\n{_yaml({'methods': methods})}```",
    ]


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
