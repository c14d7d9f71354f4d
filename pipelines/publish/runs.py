"""What is kept of finished runs where their weights are not: in `reports/` and in archives.

A folder of `write` holds `study.yaml`, `data/DATASET/`, `runs/RUN/STAGE/` and a manifest of them
all. A publication is such a folder with tables and pages beside it; `restore` reads either.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from pipelines.study import Run, Study

RUN_FILES = {
    "train": ("receipt.json", "runtime.json"),
    "evaluate": (
        *("metrics.json", "scores.json", "confusion.csv", "analysis.npz"),
        *("receipt.json", "runtime.json"),
    ),
}

_WHERE_KEPT = {"train": ("curves.csv",), "evaluate": ()}
"""What a run has too unless it was restored from an early publication, which did without."""


def copy(study: Study, runs: Sequence[Run], target: Path) -> None:
    """Copy what is kept of `runs`, of their data and of the study file below `target`."""
    for run in runs:
        for stage in RUN_FILES:
            place = target / "runs" / run.name / stage
            place.mkdir(parents=True)
            for path in files(run, stage):
                shutil.copyfile(path, place / path.name)
    for name in dict.fromkeys(run.dataset.name for run in runs):
        dataset = study.datasets[name]
        place = target / "data" / name
        place.mkdir(parents=True)
        for path in (dataset.info, dataset.receipt):
            shutil.copyfile(path, place / path.name)
    shutil.copyfile(study.path, target / "study.yaml")


def files(run: Run, stage: str) -> list[Path]:
    """The files that are kept of a stage of a finished run."""
    kept = [name for name in _WHERE_KEPT[stage] if run.output(stage, name).is_file()]
    return [run.output(stage, name) for name in (*RUN_FILES[stage], *kept)]
