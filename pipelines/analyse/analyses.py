"""The tables of the stage analyse: rows from runs, joined over a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.analyse import anchors, compactness, drift, long_tail
from pipelines.base.errors import PipelineError
from pipelines.base.frames import KEYS, read_csv, write_csv
from pipelines.compare.statistics import paired_differences, summarise
from pipelines.evaluate import kept
from pipelines.study import STUDY_STAGES, Run, Study, made

_COLUMNS = {
    "measures": [*KEYS, "seed", "metric", "value"],
    "classes": [
        *(*KEYS, "seed", "class", "group", "train_share", "iou"),
        *("relative_scatter", "silhouette", "weight_cosine", "anchor_cosine"),
    ],
    "drift": [*KEYS, "seed_a", "seed_b", "measure", "value"],
    "anchors": [*KEYS, "seed", "iteration", *anchors.CURVES],
    "left_out": [*KEYS, "seed", "part", "reason"],
}


_Sampled = dict[tuple[str, str], tuple[Run, kept.Analysis]]
"""The first run with a sample, by data set and model."""


@dataclass(frozen=True)
class Analyses:
    """The tables, each under its file's stem; rows are in study order."""

    tables: dict[str, pd.DataFrame]

    @classmethod
    def of(cls, study: Study, runs: Sequence[Run]) -> Analyses:
        """Analyse these finished runs of `study`.

        Raises:
            PipelineError: when a file is missing or broken, or two runs of one data set and model
                sampled different pixels.
        """
        wanted = {run.name for run in runs}
        rows: dict[str, list[pd.DataFrame]] = {name: [] for name in _COLUMNS}
        sampled: _Sampled = {}
        for cell in _cells([run for run in study.runs if run.name in wanted]):
            read = [(run, kept.of(run)) for run in cell]
            for run, found in read:
                if found.sample:
                    _check_pixels(run, found, sampled)
            for name, frames in _tables_of(read).items():
                rows[name] += frames
        tables = {name: _joined(name, frames) for name, frames in rows.items()}
        baseline = study.file.baseline
        tables |= {
            "summary": summarise(tables["measures"], [*KEYS, "metric"]),
            "paired": paired_differences(tables["measures"], baseline),
            "long_tail": long_tail.intervals_over_classes(tables["classes"], baseline),
            "drift_compared": drift.compared(tables["drift"], baseline),
        }
        return cls(tables)

    @classmethod
    def read(cls, study: Study) -> Analyses:
        """What the stage wrote.

        Raises:
            PipelineError: when it has not run.
        """
        tables = {}
        for name in STUDY_STAGES["analyse"]:
            path = study.output("analyse", name)
            tables[path.stem] = read_csv(path, remedy=study.again("analyse"))
        return cls(tables)

    def write(self, folder: Path) -> None:
        for name, table in self.tables.items():
            write_csv(table, folder / f"{name}.csv")


def _cells(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs of each data set, model and method, in study order."""
    cells: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        cells.setdefault((run.dataset.name, run.model, run.method), []).append(run)
    return list(cells.values())


def _check_pixels(run: Run, found: kept.Analysis, sampled: _Sampled) -> None:
    """Refuse a sample of other pixels than that of the first run of its data set and model."""
    first, other = sampled.setdefault((run.dataset.name, run.model), (run, found))
    for name in ("image", "position", "class"):
        if not np.array_equal(found.sample[name], other.sample[name]):
            raise PipelineError(
                f"{run.output('evaluate', 'analysis.npz')}: sample/{name}: other pixels than in "
                f"{first.output('evaluate', 'analysis.npz')}, so their features do not compare; "
                "run python -m pipelines.evaluate again for both"
            )


def _tables_of(read: Sequence[tuple[Run, kept.Analysis]]) -> dict[str, list[pd.DataFrame]]:
    """The rows of one method's runs, by table."""
    rows: dict[str, list[pd.DataFrame]] = {name: [] for name in _COLUMNS}
    some, _ = read[0]
    info = made.info(some.dataset)
    keys = {"dataset": some.dataset.name, "model": some.model, "method": some.method}
    for run, found in read:
        metrics = made.metrics(run)
        log = anchors.history(found)
        measured = (
            compactness.measures(found) | long_tail.measures(metrics, info) | anchors.measures(log)
        )
        group_of = {name: group for group, members in info["groups"].items() for name in members}
        of_classes = {
            "class": found.classes,
            "group": [group_of.get(name, "") for name in found.classes],
            "train_share": [info["pixel_share"][name] for name in found.classes],
            "iou": np.array([metrics["IoU"][name] for name in found.classes], np.float64),
        }
        for name, values in {
            "measures": {"metric": list(measured), "value": list(measured.values())},
            "classes": of_classes | compactness.per_class(found),
            "anchors": log,
            "left_out": _left_out(found),
        }.items():
            rows[name].append(pd.DataFrame(values).assign(**keys, seed=run.seed))
    by_seed = {run.seed: found for run, found in read}
    rows["drift"].append(drift.distances(by_seed).assign(**keys))
    return rows


def _left_out(found: kept.Analysis) -> dict[str, list[str]]:
    parts = {"features": found.missing} if found.missing else {}
    parts |= dict.fromkeys(found.dropped, "no room in analysis.npz")
    if found.anchors is not None and not found.anchors.any():
        parts["anchors"] = "the gate never opened"
    return {"part": list(parts), "reason": list(parts.values())}


def _joined(name: str, frames: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    table = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()
    return table.reindex(columns=_COLUMNS[name])
