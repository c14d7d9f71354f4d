"""What does a method cost in training, and what at inference?

Times and memory come from `runtime.json`. They are facts of the machine and of what else ran on it,
no two calls give the same, and so they belong in no file that a receipt vouches for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from pipelines import analysis
from pipelines.analyses.measures import number, spread_cell
from pipelines.artifacts import read_json
from pipelines.inference import bca_interval
from pipelines.sections import Section, Table, Text
from pipelines.statistics import KEYS
from pipelines.study import Run, Study
from pipelines.tables import NOTHING

MEASURES = {
    "wall_ms": "wall time, ms an iteration",
    "cpu_ms": "CPU time, ms an iteration",
    "memory_mib": "peak memory, MiB",
}

_SAR = "sar.mmseg:apply_sar"


def measured(runs: Sequence[Run]) -> pd.DataFrame:
    """Columns `KEYS`, seed, device, metric and value, of the runs whose runtime.json says it."""
    rows = []
    for run in runs:
        runtime = read_json(run.output("train", "runtime.json"))
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
        Columns `KEYS`, metric, pairs, ratio, low, high: the 95 % BCa interval, of the logarithms.
    """
    place = ["dataset", "model", "seed", "device", "metric"]
    reference = values.loc[values["method"] == baseline, [*place, "value"]]
    others = values[values["method"] != baseline]
    pairs = others.merge(reference, on=place, suffixes=("", "_baseline"))
    pairs = pairs[(pairs["value"] > 0) & (pairs["value_baseline"] > 0)]
    rows = []
    for keys, found in pairs.groupby([*KEYS, "metric"], sort=False):
        logs = np.log(found["value"] / found["value_baseline"])
        interval = [math.exp(end) for end in bca_interval(logs)]
        rows.append((*keys, len(logs), math.exp(logs.mean()), *interval))
    return pd.DataFrame(rows, columns=[*KEYS, "metric", "pairs", "ratio", "low", "high"])


def added_parameters(runs: Sequence[Run]) -> dict[tuple[str, str, str], int]:
    """Trained parameters that SAR adds, by data set, model and method, where the anchors are known.

    Counted on the regularizer that it builds for so many classes and channels.
    """
    from sar.regularizer import SemanticAnchorRegularizer

    counts = {}
    for run in runs:
        keys = (run.dataset.name, run.model, run.method)
        if run.spec.plugin != _SAR or keys in counts:
            continue
        found = analysis.read(run.output("evaluate", "analysis.npz"))
        if found.anchors is not None:
            built = SemanticAnchorRegularizer(*found.anchors.shape)
            counts[keys] = sum(parameter.numel() for parameter in built.parameters())
    return counts


def section(study: Study, runs: Sequence[Run], methods: Mapping[str, str]) -> Section:
    """What was measured in these finished runs; nothing that a replay gives again.

    Args:
        methods: labels of all methods by name, the baseline first.
    """
    baseline = study.file.baseline
    values = measured(runs)
    compared = ratios(values, baseline)
    added = [
        f"- {dataset} / {model}, {methods[method]}: {count:,} trained parameters beside the "
        "model's own, none of them in the exported weights."
        for (dataset, model, method), count in added_parameters(runs).items()
    ]
    if values.empty:
        nothing = Text("No run's runtime.json tells its time or memory.")
        return Section("Cost", [nothing], reproducible=False)
    devices = ", ".join(sorted(values["device"].unique()))
    text = Text(
        "Measured while the runs of this study were trained, "
        "**on a machine that other work shared**: "
        "from the start of the command to its end, validation and start-up included, and only the "
        "last stretch of a training that was interrupted. Wall times of single runs are no ground "
        "for comparison; neighbours affect CPU time less, and still do. Pairs are of one "
        f"seed on one device ({devices}). A measurement on its own, in turns in one process, is "
        "`benchmarks/cost.py` with its results in `benchmarks/cost.csv`: the exported weights of "
        f"both methods have equal names, shapes and sizes, and no step of inference differs.\n\n"
        + "\n".join(added)
    )
    return Section("Cost", [text, _table(values, compared, methods)], reproducible=False)


def _table(values: pd.DataFrame, compared: pd.DataFrame, methods: Mapping[str, str]) -> Table:
    groups = values.groupby([*KEYS, "metric"], sort=False)["value"]
    data = groups.agg(n="count", mean="mean", std="std").reset_index()
    data = data.merge(compared, on=[*KEYS, "metric"], how="left")
    shown = pd.DataFrame(
        {
            "data set": data["dataset"],
            "model": data["model"],
            "measure": data["metric"].map(MEASURES),
            "method": data["method"].map(methods),
            "seeds": data["n"].astype(str),
            "value": [spread_cell(row.mean, row.std) for row in data.itertuples()],
            "ratio to the baseline": [number(ratio, 0.1) for ratio in data["ratio"]],
            "95 % interval": [
                NOTHING if math.isnan(row.low) else f"[{row.low:.2f}, {row.high:.2f}]"
                for row in data.itertuples()
            ],
        }
    )
    caption = (
        "Mean ± sample standard deviation over seeds; geometric mean of the ratios to the "
        "baseline, paired by seed, with its 95 % BCa interval. Run-time facts: another replay "
        "gives others."
    )
    return Table("cost", data, shown, caption)
