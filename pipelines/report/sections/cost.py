"""What a method costs in training and at inference, told."""

from __future__ import annotations

import math

import pandas as pd

from pipelines.analyse.cost import added_parameters, measured, ratios
from pipelines.base.frames import KEYS
from pipelines.rendering.numbers import NOTHING
from pipelines.rendering.parts import Section, Table, Text
from pipelines.report.material import Material, labels
from pipelines.report.measure_table import number, spread_cell

MEASURES = {
    "cpu_ms": "CPU time, ms an iteration",
    "wall_ms": "wall time, ms an iteration",
    "memory_mib": "peak memory, MiB",
}


def section(material: Material) -> Section:
    """What was measured in these finished runs, beside their scores; nothing that a replay gives
    again."""
    runs, baseline = material.runs, material.study.file.baseline
    values = measured(runs)
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
        "`benchmarks/cost.py` with its results in `benchmarks/cost.csv`. What a method trains "
        "beside the model is not in the exported weights, and inference is the baseline's, unless "
        "the method says that it predicts in another way."
    )
    return Section("Cost", [text, _table(material, values, baseline)], reproducible=False)


def _table(material: Material, values: pd.DataFrame, baseline: str) -> Table:
    methods, counts = labels(material.study), added_parameters(material.runs)
    groups = values.groupby([*KEYS, "metric"], sort=False)["value"]
    data = groups.agg(n="count", mean="mean", std="std").reset_index()
    data = data.merge(ratios(values, baseline), on=[*KEYS, "metric"], how="left")
    scores = material.comparison.summary
    scores = scores[scores["metric"] == "mIoU"].set_index(KEYS)
    rows = []
    for keys, found in data.groupby(KEYS, sort=False):
        dataset, model, method = keys
        row: dict[str, str] = {
            "data set": dataset,
            "model": model,
            "method": methods[method],
            "mIoU": NOTHING,
        }
        if keys in scores.index:
            row["mIoU"] = spread_cell(*scores.loc[keys, ["mean", "std"]])
        added = counts.get(keys)
        row["added parameters"] = NOTHING if added is None else f"{added:,}"
        measures = found.set_index("metric")
        for metric, heading in MEASURES.items():
            row[heading], row[f"{heading.split(',')[0]}, ratio"] = _cells(measures, metric)
        rows.append(row)
    data["added_parameters"] = [
        counts.get(keys) for keys in data[KEYS].itertuples(index=False, name=None)
    ]
    caption = (
        "Mean ± sample standard deviation over seeds; geometric mean of the ratios to the "
        "baseline, paired by seed, with its 95 % t interval. Added parameters are trained "
        "beside the model's own. Times and memory are run-time facts: another replay gives others."
    )
    return Table("cost", data, pd.DataFrame(rows), caption)


def _cells(measures: pd.DataFrame, metric: str) -> tuple[str, str]:
    if metric not in measures.index:
        return NOTHING, NOTHING
    row = measures.loc[metric]
    ratio = number(row["ratio"], 0.1)
    if not math.isnan(row["low"]):
        ratio += f" [{row['low']:.2f}, {row['high']:.2f}]"
    return spread_cell(row["mean"], row["std"]), ratio
