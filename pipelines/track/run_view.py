"""The view of one run: finished, trained and not yet evaluated, in training, or broken off."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

from pipelines.base.artifacts import sha256_file, sha256_json
from pipelines.base.metric_names import headline
from pipelines.running.curves import Curves
from pipelines.running.progress import Progress, clock, read_progress, work_folder
from pipelines.study import Run, made
from pipelines.track.view import LAYOUT, RUN_KEY, DataInput, Point, Stage, View, finished, key

_DIGEST_LENGTH = 36  # of a data set's digest in MLflow
_MEASURED_ON_VAL = ("mIoU", "mAcc", "aAcc")
_COLOURS = ("#777777", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Of the methods, in the order of the study: those of the report, on a light or a dark page."""


def run_view(run: Run) -> View | None:
    """The view of `run`, or None where no training with its present parameters and data began.

    A training that goes on comes before results of an earlier one; one that broke off after them.

    Raises:
        PipelineError: when a file that the receipts vouch for cannot be read.
    """
    # Published runs are shown without their data and weights, too.
    there = all(receipt.is_file() for receipt in run.input_receipts("train"))
    progress = read_progress(work_folder(run)) if there else None
    if progress is None or progress.status != "RUNNING":
        train = finished(run, "train")
        if train is not None:
            return _trained(run, train)
    return None if progress is None else _unfinished(run, progress)


def _unfinished(run: Run, progress: Progress) -> View:
    """Of a training that goes on or broke off: its curve as far as its times are known."""
    known = max(progress.times)
    curves = {step: values for step, values in progress.curves.items() if step <= known}
    start, end = (_iso(f(progress.times.values())) for f in (min, max))
    return View(
        key=(RUN_KEY, run.name),
        title=_title(run),
        parts={"start": _start(progress.id)},
        params=_facts(run) | dict(_flat(run.parameters("train"))),
        points=list(_curves(curves, clock(progress.times))),
        tags=_tags(run),
        inputs=_inputs(run),
        files=[],
        texts={},
        started=start,
        ended=None if progress.status == "RUNNING" else end,
        status=progress.status,
    )


def _trained(run: Run, train: Stage) -> View:
    stages = {"train": train}
    view = View(
        key=(RUN_KEY, run.name),
        title=_title(run),
        parts={},
        params=_facts(run) | dict(_flat(run.parameters("train"))),
        points=list(_finished_curves(train)),
        tags=_tags(run),
        inputs=_inputs(run),
        files=train.files(("curves.csv", "config.py"), "train"),
        texts={},
        started=train.started,
        ended=train.ended,
        status="SCHEDULED",
    )
    logged = train.runtime.get("logged")
    if logged is not None:
        # The curve was, or may have been, shown while it grew.
        start = _iso(min(logged["times"].values()))
        view = replace(view, started=start, parts={"start": _start(logged["id"])})
    evaluate = finished(run, "evaluate")
    if evaluate is not None:
        stages["evaluate"] = evaluate
        view = _evaluated(run, view, evaluate)
    # A name that comes after those of the scores and curves, which the pages show by name.
    workload = [
        Point(f"workload/{name}_{fact}", stage.runtime[fact], 0, 0.0)
        for name, stage in stages.items()
        for fact in ("wall_seconds", "cpu_seconds", "peak_memory_mib")
        if fact in stage.runtime
    ]
    return replace(
        view,
        parts=view.parts | {name: stage.fingerprint for name, stage in stages.items()},
        points=view.points + workload,
        tags=view.tags | _provenance(stages),
    )


def _evaluated(run: Run, view: View, evaluate: Stage) -> View:
    metrics = made.metrics(run)
    # Step 0, at which MLflow draws a bar for each run; at a later step it draws a curve.
    scores = [
        Point(key(f"{metrics['split']}/{name}"), value, 0, 0.0)
        for name, value in headline(metrics).items()
    ]
    table = "evaluate/per_class.json"
    return replace(
        view,
        points=view.points + scores,
        # By this tag MLflow finds the artifacts that are tables.
        tags=view.tags | {"mlflow.loggedArtifacts": json.dumps([{"path": table, "type": "table"}])},
        files=view.files + evaluate.files(("metrics.json", "confusion.csv"), "evaluate"),
        texts={table: _per_class(metrics, run.dataset.card.classes)},
        ended=evaluate.ended,
        status="FINISHED",
        score=metrics["mIoU"],
    )


def _title(run: Run) -> str:
    """The method first: the pages cut names short, and it is what the curves differ in."""
    several = len(run.study.datasets) * len(run.study.models) > 1
    title = f"{run.method}/seed{run.seed}"
    return f"{title} {run.dataset.name}/{run.model}" if several else title


def _tags(run: Run) -> dict[str, str]:
    """What is known before a run is trained; all runs of a method are drawn in one colour."""
    index = list(run.study.file.methods).index(run.method)
    return _facts(run) | {
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": "pipelines.train",
        "mlflow.runColor": _COLOURS[index % len(_COLOURS)],
    }


def _facts(run: Run) -> dict[str, str]:
    return {
        "study": run.study.name,
        "dataset": run.dataset.name,
        "model": run.model,
        "method": run.method,
    }


def _start(progress: str) -> str:
    return sha256_json([LAYOUT, progress])


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def _finished_curves(train: Stage) -> Iterator[Point]:
    """The training curves, at the times at which they were logged.

    Results from before those were kept: spread evenly over the time that training took.
    """
    from pipelines.base.frames import read_csv  # pandas, which a training does without

    path = train.folder / "curves.csv"
    curves: Curves = {}
    for row in read_csv(path, (), needs=("iteration",)).to_dict("records"):
        step = int(row.pop("iteration"))
        curves[step] = {name: value for name, value in row.items() if value == value}
    if "logged" in train.runtime:
        times = {int(step): time for step, time in train.runtime["logged"]["times"].items()}
    else:
        wall = round(1000 * train.runtime.get("wall_seconds", 0.0))
        times = {0: 0, max(curves, default=1): wall}
    return _curves(curves, clock(times))


def _curves(curves: Curves, seconds: Callable[[int], float]) -> Iterator[Point]:
    for step, values in sorted(curves.items()):
        for name, value in values.items():
            # Not a number is a blank in curves.csv.
            if value == value:
                where = "val" if name in _MEASURED_ON_VAL else "train"
                yield Point(
                    key(name if "/" in name else f"{where}/{name}"), value, step, seconds(step)
                )


def _per_class(metrics: Mapping[str, Any], classes: Sequence[str]) -> str:
    """The table that MLflow shows as one: pandas' `split` orientation, classes in card order."""
    rows = [[name, metrics["IoU"][name], metrics["Acc"][name]] for name in classes]
    return json.dumps({"columns": ["class", "IoU", "Acc"], "data": rows}, ensure_ascii=False)


def _provenance(stages: Mapping[str, Stage]) -> dict[str, str]:
    """Tags by which a number is walked back to its commit, config, data, weights and device."""
    train = stages["train"]
    tags = {
        "sar.config": train.receipt["parameters"],
        "sar.weights": train.receipt["outputs"].get("weights.safetensors"),
        "mlflow.source.git.commit": train.runtime.get("commit"),
        "sar.dirty": train.runtime.get("dirty"),
        "sar.device": train.runtime.get("device"),
        "sar.platform": train.runtime.get("platform"),
        "sar.python": train.runtime.get("python"),
    }
    versions = train.runtime.get("versions", {})
    tags |= {f"sar.version.{name}": version for name, version in versions.items()}
    for name, stage in stages.items():
        tags[f"sar.receipt.{name}"] = sha256_file(stage.folder / "receipt.json")
    return {name: _text(value) for name, value in tags.items() if value is not None}


def _inputs(run: Run) -> list[DataInput]:
    """The splits that the run trained on and was scored on, where the prepared data is here."""
    if not run.dataset.info.is_file():
        return []
    info = made.info(run.dataset)
    splits: tuple[tuple[str, Literal["train", "test"]], ...] = (
        ("train", "train"),
        (run.evaluation.split, "test"),
    )
    return [
        DataInput(
            name=f"{run.dataset.name}-{split}",
            digest=info["digests"][split][:_DIGEST_LENGTH],
            context=context,
            folder=run.dataset.prepared.as_posix(),
            images=info["counts"][split],
        )
        for split, context in splits
    ]


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Leaves of nested dicts, as (dotted key, text)."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _flat(item, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield key(prefix), _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
