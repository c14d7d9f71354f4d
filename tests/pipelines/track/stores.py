"""What a tracking store holds, and whether that is what the local files say, point by point."""

from __future__ import annotations

import csv
from collections import Counter

from pipelines.base.artifacts import read_json
from pipelines.study import Run, Study
from pipelines.track.connection import tracking_uri


def client():
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri(), tracking_uri())


def records() -> dict[str, object]:
    """All runs of the experiment by the name of what they show; two of one name are an error."""
    experiment = client().get_experiment_by_name("mini")
    if experiment is None:
        return {}
    runs = client().search_runs([experiment.experiment_id])
    named = [(run.data.tags.get("sar.run", run.info.run_name), run) for run in runs]
    names = Counter(name for name, _ in named)
    assert max(names.values(), default=1) == 1, names
    return dict(named)


def history(record, key: str) -> list[tuple[int, float]]:
    points = client().get_metric_history(record.info.run_id, key)
    return sorted((point.step, point.value) for point in points)


def curves(record) -> dict[str, list[tuple[int, float]]]:
    """All histories of a run, but for those of what was measured once."""
    keys = [key for key in record.data.metrics if key.startswith(("train/", "val/"))]
    return {key: history(record, key) for key in keys}


def times(record, key: str) -> list[int]:
    """When the points of a run were logged, in milliseconds after its start, in order of steps."""
    points = client().get_metric_history(record.info.run_id, key)
    ordered = sorted(points, key=lambda point: point.step)
    return [point.timestamp - record.info.start_time for point in ordered]


def contents() -> dict:
    """All that the store holds, without ids of its own making."""
    return {
        name: {
            "points": {key: history(record, key) for key in record.data.metrics},
            "params": record.data.params,
            "inputs": sorted(i.dataset.digest for i in record.inputs.dataset_inputs),
            "status": record.info.status,
            "times": (record.info.start_time, record.info.end_time),
        }
        for name, record in records().items()
    }


def local_curves(run: Run) -> dict[str, list[tuple[int, float]]]:
    """What the store should hold of the curves of a trained run."""
    found: dict[str, list[tuple[int, float]]] = {}
    with run.output("train", "curves.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            step = int(row.pop("iteration"))
            for name, value in row.items():
                if value:
                    where = "val" if name in ("mIoU", "mAcc", "aAcc") else "train"
                    key = f"{where}/{name}"
                    found.setdefault(key, []).append((step, float(value)))
    return found


def assert_shown(run: Run, record) -> None:
    """Every point of a finished run is in the store once, and no other."""
    assert curves(record) == local_curves(run), run.name
    metrics = read_json(run.output("evaluate", "metrics.json"))
    assert history(record, "test/mIoU") == [(0, metrics["mIoU"])]


def assert_all_shown(study: Study) -> None:
    found = records()
    assert set(found) == {f"{study.name}: comparison", *(run.name for run in study.runs)}
    for run in study.runs:
        assert_shown(run, found[run.name])
