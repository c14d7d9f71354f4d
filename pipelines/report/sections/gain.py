"""Where a gain comes from: the auxiliary loss alone, or the pull of pixels to anchors.

A method that has a twin without its pull splits its difference to the baseline into two steps: what
the twin gains, and what the pull adds to it. Both are told by the same test.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from pipelines.base.class_groups import GROUPS
from pipelines.base.frames import KEYS
from pipelines.compare.statistics import paired_differences
from pipelines.rendering.numbers import cell, in_words, interval, p_value
from pipelines.rendering.parts import Section, Table, Text
from pipelines.report.material import Material, labels
from pipelines.report.measure_table import adjusted, verdict
from pipelines.study import Study

_PULL = "pull_weight"
_ALONE = "auxiliary loss alone"
_TEST = ["dataset", "model", "compared"]
_WITHOUT_EFFECT = {_PULL, "momentum"}
"""Options that change nothing of a training without the pull."""


class Arms(NamedTuple):
    """A method, and the one that differs from it by having no pull."""

    whole: str
    without_pull: str


def arms(study: Study) -> list[Arms]:
    """The compared methods of `study` that have a twin without their pull."""
    methods = {name: study.file.methods[name] for name in labels(study, control=False)}

    def rest(name: str) -> tuple[object, ...]:
        spec = methods[name]
        options = {key: value for key, value in spec.options.items() if key not in _WITHOUT_EFFECT}
        return spec.plugin, options, spec.training

    plugged = [name for name, spec in methods.items() if spec.plugin is not None]
    twins = [name for name in plugged if methods[name].options.get(_PULL) == 0]
    return [
        Arms(whole, twin)
        for whole in plugged
        for twin in twins
        if whole not in twins and rest(whole) == rest(twin)
    ]


def gain_table(study: Study, runs: pd.DataFrame) -> pd.DataFrame:
    """One row a data set, model, method, step and metric.

    Args:
        runs: scores, as compare writes them.

    Returns:
        Columns `KEYS` (of the whole method), against (its twin), step, compared (the two methods of
        the step), metric; n, mean_difference, std_difference, wins, low, high, p; p_holm of the
        steps of mIoU.
    """
    names = ["mIoU", *(f"mIoU/{group}" for group in GROUPS)]
    metrics = [name for name in names if (runs["metric"] == name).any()]
    parts = []
    for whole, twin in arms(study):
        for step, method, against in (
            (_ALONE, twin, study.file.baseline),
            ("pull added to it", whole, twin),
            ("both", whole, study.file.baseline),
        ):
            chosen = runs[runs["method"].isin((method, against)) & runs["metric"].isin(metrics)]
            found = paired_differences(chosen, against)
            compared = f"{method} minus {against}"
            parts.append(found.assign(method=whole, against=twin, step=step, compared=compared))
    columns = [
        *(*KEYS, "against", "step", "compared", "metric"),
        *("n", "mean_difference", "std_difference", "wins", "low", "high", "p"),
    ]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    table = table[columns]
    # Methods that share a twin share its step, which is one test.
    steps = table[(table["metric"] == "mIoU") & (table["step"] != "both")]
    tests = adjusted(steps.drop_duplicates(_TEST))
    table = table.merge(tests[[*_TEST, "metric", "p_holm"]], on=[*_TEST, "metric"], how="left")
    order = {name: place for place, name in enumerate([*study.datasets, *study.models, *metrics])}
    return table.sort_values(
        ["dataset", "model", "metric"],
        key=lambda names: names.map(order),
        kind="stable",
        ignore_index=True,
    )


def section(material: Material) -> Section | None:
    """What was found; None where no method has a twin without its pull and runs of both."""
    study = material.study
    table = gain_table(study, material.comparison.runs)
    if table.empty:
        return None
    names = labels(study, control=False)
    judged = len(material.runs) == len(study.runs)
    sentences = _sentences(
        table[table["metric"] == "mIoU"], names, names[study.file.baseline], judged
    )
    text = Text(
        "A method differs from its twin without the pull by the pull of pixels to semantic anchors "
        "alone; the twin differs from the baseline by the auxiliary cross-entropy of the class "
        "anchors. The two steps add up to the whole difference. mIoU:\n\n" + sentences
    )
    shown = pd.DataFrame(
        [
            {
                "data set": row.dataset,
                "model": row.model,
                "method": names[row.method],
                "metric": row.metric,
                "step": row.step,
                "difference": cell(row.mean_difference, row.std_difference, signed=True),
                "95 % interval": interval(row.low, row.high),
                "higher in": f"{row.wins} of {row.n}",
                "p": p_value(row.p),
                "p, Holm": p_value(row.p_holm),
            }
            for row in table.itertuples()
        ]
    )
    tests = table.drop_duplicates([*_TEST, "metric"])["p_holm"].count()
    caption = (
        "Differences in points, paired by seed: mean ± sample standard deviation, 95 % t interval "
        "of the mean, p of the exact sign-flip test, and after Holm's correction over the "
        f"{tests} steps of mIoU by which the text answers; the others are described."
    )
    return Section("Where the gain comes from", [text, Table("gain", table, shown, caption)])


def _sentences(table: pd.DataFrame, names: Mapping[str, str], baseline: str, judged: bool) -> str:
    lines = []
    several = len(table[["dataset", "model"]].drop_duplicates()) > 1
    for (*keys, twin), steps in table.groupby([*KEYS, "against"], sort=False):
        dataset, model, method = keys
        rows = {row.step: row for row in steps.itertuples()}
        if len(rows) < 3:
            continue
        where = f"{dataset} / {model}: " if several else ""
        alone, pull, both = (rows[step] for step in (_ALONE, "pull added to it", "both"))
        lines += [
            f"- {where}{names[twin]} minus {baseline}, the auxiliary loss alone: "
            f"{_told(alone, judged)}",
            f"- {where}{names[method]} minus {names[twin]}, the pull: {_told(pull, judged)}",
            f"- {where}{names[method]} minus {baseline}, both: {_points(both)}.",
        ]
    return "\n".join(lines)


def _points(row: Any) -> str:
    mean = cell(row.mean_difference, row.std_difference, signed=True)
    return f"{mean} points over {row.n} pairs{in_words(row.low, row.high)}"


def _told(row: Any, judged: bool) -> str:
    if not judged:
        return f"{_points(row)}; not judged yet."
    p = "" if pd.isna(row.p_holm) else f", p = {p_value(row.p_holm)} after Holm"
    return f"{_points(row)}{p}: {verdict(row.mean_difference, row.p_holm)}."
