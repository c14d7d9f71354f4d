"""What the study claimed before its runs, and the verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipelines.compare.claims import RULE
from pipelines.compare.inference import ALPHA
from pipelines.rendering import numbers
from pipelines.rendering.numbers import cell, in_words, intervals, p_value
from pipelines.rendering.parts import Section, Table, Text, Verdict, Verdicts, run_anchor
from pipelines.report.material import Material


def shown_claims(claims: pd.DataFrame, methods: Mapping[str, str]) -> pd.DataFrame:
    """`claims.assess` as text.

    Args:
        methods: labels by name.
    """
    shown = claims[["claim", "dataset", "model", "metric"]].rename(columns={"dataset": "data set"})
    shown["claimed"] = [
        _claimed(row, methods[row.method], methods[row.against]) for row in claims.itertuples()
    ]
    shown["pairs"] = [
        f"{row.n}" if row.n == row.pairs else f"{row.n} of {row.pairs}"
        for row in claims.itertuples()
    ]
    differences = zip(claims["mean_difference"], claims["std_difference"], strict=True)
    # With all decimals, as the margin that they are held against.
    shown["difference"] = [cell(mean, std, signed=True, decimals=2) for mean, std in differences]
    shown["95 % interval"] = intervals(claims, "low", "high", decimals=2)
    shown["p"] = [p_value(p) for p in claims["p"]]
    shown["p, Holm"] = [p_value(p) for p in claims["p_holm"]]
    shown["verdict"] = claims["verdict"]
    return shown


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
        "are in points, paired by seed: mean ± sample standard deviation, 95 % t interval of "
        "the mean, p of the exact two-sided sign-flip test against the margin, and the same after "
        f"Holm's correction over all {len(found)} tests of the study."
    )
    anchors = [run_anchor(row.dataset, row.model, row.method) for row in found.itertuples()]
    return Section(
        "Claims",
        [
            Verdicts([_verdict(row, names) for row in found.itertuples()]),
            *_too_few(found),
            Table("claims", found, shown_claims(found, names), caption, anchors),
            Text(f"The rule, the same for every study:\n\n{rules}"),
        ],
    )


def _claimed(row: Any, method: str, against: str) -> str:
    if row.direction == "within":
        return f"{method} within {row.margin:.2f} of {against}"
    return f"{method} {row.direction} than {against}, by {row.margin:.2f}"


def _verdict(row: Any, names: Mapping[str, str]) -> Verdict:
    method, against = names[row.method], names[row.against]
    claimed = f"claimed was {row.metric} of {method} {row.direction} than that of {against}, by "
    claimed += f"more than {row.margin:.2f} points"
    if row.direction == "within":
        claimed = (
            f"claimed was {row.metric} of {method} within {row.margin:.2f} points of {against}"
        )
    found, card = f"{row.reason}", f"{row.n} of {row.pairs} pairs"
    if not pd.isna(row.mean_difference):
        within = in_words(row.low, row.high, decimals=2)
        mean = numbers.cell(row.mean_difference, row.std_difference, signed=True, decimals=2)
        found = (
            f"Found: {mean} points over {row.n} pairs"
            f"{within}, p = {numbers.p_value(row.p_holm)} after Holm: {row.reason}"
        )
        card = f"{row.metric} {mean} points, p = {numbers.p_value(row.p_holm)}"
    place = f"`{row.claim}` ({row.dataset}, {row.model})"
    return Verdict(place, row.verdict, claimed, found, card)


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
