"""How do the semantic anchors come to be: confidence, gate and lag over the iterations."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipelines.evaluate.kept import Analysis

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
