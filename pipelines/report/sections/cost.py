"""What a method costs in training and at inference, told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from pipelines.analyse.cost import added_parameters, measured, ratios
from pipelines.base.frames import KEYS
from pipelines.rendering.numbers import NOTHING
from pipelines.rendering.parts import Section, Table, Text
from pipelines.report.measure_table import number, spread_cell
from pipelines.study import Run, Study

MEASURES = {
    "wall_ms": "wall time, ms an iteration",
    "cpu_ms": "CPU time, ms an iteration",
    "memory_mib": "peak memory, MiB",
}


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
        "baseline, paired by seed, with its 95 % t interval. Run-time facts: another replay "
        "gives others."
    )
    return Table("cost", data, shown, caption)
