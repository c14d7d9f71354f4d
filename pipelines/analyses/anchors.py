"""How do the semantic anchors come to be: confidence, gate and lag over the iterations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from pipelines.analyses import charts
from pipelines.analyses.measures import Measure, measure_table, number, spread_cell
from pipelines.analysis import Analysis
from pipelines.sections import Drawing, Section, Text
from pipelines.statistics import KEYS

MEASURES = {
    "anchors/first_open": Measure("first recorded iteration with an open gate", None),
    "anchors/open_share": Measure("records with an open gate", None, unit=" %"),
    "anchors/final_min_confidence": Measure("least confidence of an anchor at the end", None),
    "anchors/final_mean_confidence": Measure("mean confidence of the anchors at the end", None),
    "anchors/final_lag": Measure("lag of the anchors at the end / their norm", None),
}
"""By name in measures.csv."""

CURVES = {
    "confidence_min": "Least confidence of an anchor",
    "confidence_mean": "Mean confidence of the anchors",
    "gate": "Gate open (share of seeds)",
    "lag": "Lag / norm of the anchors",
}
"""Columns of anchors.csv, and their titles."""


def history(analysis: Analysis) -> pd.DataFrame:
    """The log of one run, a row a recorded iteration; empty where it has none.

    Returns:
        Columns iteration, those of `CURVES`: confidence p_k = softmax(classifier(e_k))_k of the
        embedded anchors, least and mean over k; gate, 0 or 1; lag, the mean over k of
        rms(e_k - m_k) / rms(m_k), how far the average m_k is behind the embedded anchor e_k that
        it follows, NaN until the gate opens for the first time.
    """
    log = {name.rpartition(".")[2]: values for name, values in analysis.log.items()}
    if not {"iteration", "confidence", "gate", "lag", "norm"} <= log.keys():
        return pd.DataFrame(columns=["iteration", *CURVES])
    confidence, norm = (log[name].astype(np.float64) for name in ("confidence", "norm"))
    with np.errstate(invalid="ignore", divide="ignore"):
        lag = np.where(norm > 0, log["lag"] / norm, np.nan)
    return pd.DataFrame(
        {
            "iteration": log["iteration"],
            "confidence_min": confidence.min(axis=1),
            "confidence_mean": confidence.mean(axis=1),
            "gate": log["gate"][:, 0].astype(int),
            # Before the gate opens for the first time all are NaN, afterwards none is.
            "lag": lag.mean(axis=1),
        }
    )


def measures(found: pd.DataFrame) -> dict[str, float]:
    """The measures of one run from its `history`, those of `MEASURES` that it has."""
    if found.empty:
        return {}
    last, opened = found.iloc[-1], found.loc[found["gate"] == 1, "iteration"]
    values = {
        "open_share": 100 * found["gate"].mean(),
        "final_min_confidence": last["confidence_min"],
        "final_mean_confidence": last["confidence_mean"],
        "final_lag": last["lag"],
    }
    if len(opened):
        values["first_open"] = opened.iloc[0]
    return {f"anchors/{name}": float(value) for name, value in values.items() if np.isfinite(value)}


def section(tables: Mapping[str, pd.DataFrame], methods: Mapping[str, str]) -> Section | None:
    """What was found.

    Args:
        tables: `measures`, `summary`, `paired` and `anchors` of `pipelines.analyse`.
        methods: labels of all methods by name.

    Returns:
        None where no run has a log of anchors.
    """
    table = measure_table("anchor_measures", tables, MEASURES, methods)
    log = tables["anchors"]
    if table is None or log.empty:
        return None
    shown = table.shown.drop(columns=["difference", "95 % interval"])
    text = Text(
        "Recorded during training every few iterations, so an opening of the gate is known to the "
        "record and not to the iteration: it was open at that record at the latest. Confidence is "
        "the probability that the classifier gives an embedded anchor's own class; the gate is "
        "open where every anchor is classified right and confident, and only then the semantic "
        "anchors move and pull. The lag is how far they are behind the embedded anchors that they "
        "follow: in an iteration with an open gate they move by (1 - momentum) / momentum of it."
        f"\n\n{_answers(tables, methods)}"
    )
    drawing = Drawing(
        "anchors",
        charts.anchor_figure(log, CURVES, methods),
        "Over the training iterations: " + ", ".join(CURVES.values()) + ".",
        "One thin line a seed and their mean; of the gate the share of seeds in which it is open.",
    )
    caption = "Mean ± sample standard deviation over the seeds that have such a value."
    return Section(
        "Anchors over time",
        [text, drawing, type(table)(table.name, table.data, shown, caption)],
    )


def _answers(tables: Mapping[str, pd.DataFrame], methods: Mapping[str, str]) -> str:
    summary = tables["summary"].set_index([*KEYS, "metric"])
    lines = []
    for keys, log in tables["anchors"].groupby(KEYS, sort=False):
        by_seed = log.groupby("seed")["gate"]
        opened = int(by_seed.max().sum())
        line = (
            f"- {keys[0]} / {keys[1]}, {methods[keys[2]]}: the gate opened in {opened} of "
            f"{by_seed.ngroups} runs"
        )
        if opened:
            first, share = (
                summary.loc[(*keys, f"anchors/{name}")] for name in ("first_open", "open_share")
            )
            always = log[log["gate"] == 1].groupby("seed")["iteration"].min()
            after = log[log["iteration"] >= log["seed"].map(always)]
            line += (
                f", first at the record of iteration {spread_cell(first['mean'], first['std'])} of "
                f"{log['iteration'].max()}; open in {spread_cell(share['mean'], share['std'])} % "
                f"of the records, and in {number(100 * after['gate'].mean(), 1)} % of those from "
                "the first opening on"
            )
        lines.append(f"{line}.")
    return "\n".join(lines)
