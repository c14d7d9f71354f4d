"""What does a method cost in training, and what at inference?

Times and memory come from `runtime.json`. They are facts of the machine and of what else ran on it,
no two calls give the same, and so they belong in no file that a receipt vouches for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from pipelines.base.frames import KEYS
from pipelines.compare.inference import t_interval
from pipelines.evaluate import kept
from pipelines.study import Run, made

_SAR = "sar.mmseg:apply_sar"


def measured(runs: Sequence[Run]) -> pd.DataFrame:
    """Columns `KEYS`, seed, device, metric and value, of the runs whose runtime.json says it."""
    rows = []
    for run in runs:
        runtime = made.runtime(run, "train")
        device, per_iteration = runtime.get("device", "unknown"), 1000 / run.training.iterations
        for metric, key, factor in (
            ("wall_ms", "wall_seconds", per_iteration),
            ("cpu_ms", "cpu_seconds", per_iteration),
            ("memory_mib", "peak_memory_mib", 1.0),
        ):
            if key in runtime:
                keys = (run.dataset.name, run.model, run.method, run.seed)
                rows.append((*keys, device, metric, factor * runtime[key]))
    return pd.DataFrame(rows, columns=[*KEYS, "seed", "device", "metric", "value"])


def ratios(values: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Geometric mean of method over baseline, seed by seed on equal devices.

    Returns:
        Columns `KEYS`, metric, pairs, ratio, low, high: the 95 % t interval, of the logarithms.
    """
    place = ["dataset", "model", "seed", "device", "metric"]
    reference = values.loc[values["method"] == baseline, [*place, "value"]]
    others = values[values["method"] != baseline]
    pairs = others.merge(reference, on=place, suffixes=("", "_baseline"))
    pairs = pairs[(pairs["value"] > 0) & (pairs["value_baseline"] > 0)]
    rows = []
    for keys, found in pairs.groupby([*KEYS, "metric"], sort=False):
        logs = np.log(found["value"] / found["value_baseline"])
        interval = [math.exp(end) for end in t_interval(logs)]
        rows.append((*keys, len(logs), math.exp(logs.mean()), *interval))
    return pd.DataFrame(rows, columns=[*KEYS, "metric", "pairs", "ratio", "low", "high"])


def added_parameters(runs: Sequence[Run]) -> dict[tuple[str, str, str], int]:
    """How many parameters a method trains that do not predict, by data set, model and method.

    As runtime.json says. For SAR's trainings of earlier versions, which did not write it, they are
    counted on the regularizer that it builds for so many classes and channels.
    """
    from sar.regularizer import SemanticAnchorRegularizer

    counts = {}
    for run in runs:
        keys = (run.dataset.name, run.model, run.method)
        told = made.runtime(run, "train").get("added_parameters")
        if run.spec.plugin is None:
            counts[keys] = 0
        elif told is not None:
            counts[keys] = told
        elif run.spec.plugin == _SAR and keys not in counts:
            found = kept.of(run)
            if found.anchors is not None:
                built = SemanticAnchorRegularizer(*found.anchors.shape)
                counts[keys] = sum(parameter.numel() for parameter in built.parameters())
    return counts
