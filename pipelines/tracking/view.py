"""What the tracking store should show of a study and of its runs, read from the local files.

Nothing here knows MLflow. A view is a pure function of the files that the stages wrote, so that the
same files always ask for the same parameters, points and artifacts.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pipelines.artifacts import read_json, sha256_file, sha256_json
from pipelines.errors import PipelineError
from pipelines.study import Run, Study

RUN_KEY = "sar.run"
"""Tag of the view of one run; its value is the run's name."""

STUDY_KEY = "sar.comparison"
"""Tag of the view of a whole study; its value is the study's name."""

_DIGEST_LENGTH = 36  # of a data set's digest in MLflow
_NOTE_LENGTH = 8000  # of a tag in MLflow
_SMALL = (".json", ".csv")


@dataclass(frozen=True)
class Point:
    """One value of a metric, so many seconds after the start of its run."""

    key: str
    value: float
    step: int
    seconds: float


@dataclass(frozen=True)
class DataInput:
    """One split of a data set that a run read."""

    name: str
    digest: str
    context: Literal["train", "test"]
    folder: str
    images: int


@dataclass(frozen=True)
class View:
    """What one run of the tracking store should hold."""

    key: tuple[str, str]
    """Tag and value by which the store finds it again."""
    title: str
    parts: dict[str, str]
    """Fingerprint of each stage it shows. A store cannot forget a point or change a parameter, so a
    run that shows another fingerprint of a part is replaced; a part that is new is added."""
    params: dict[str, str]
    points: list[Point]
    tags: dict[str, str]
    inputs: list[DataInput]
    files: list[tuple[str, str]]
    """Local path and the artifact folder it belongs in."""
    texts: dict[str, str]
    """Contents of further artifacts, by their path."""
    started: str | None
    ended: str | None
    """ISO times."""
    finished: bool

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of all of it; the bytes of the files enter through the receipts in `parts`."""
        return sha256_json(asdict(self))


@dataclass(frozen=True)
class _Stage:
    """A stage's finished outputs: its folder, receipt and runtime."""

    folder: Path
    receipt: dict[str, Any]
    runtime: dict[str, Any]

    @cached_property
    def fingerprint(self) -> str:
        # The runtime counts: running a stage again gives the same receipt, but is another event.
        return sha256_json([self.receipt, self.runtime])

    @property
    def started(self) -> str | None:
        return self.runtime.get("started")

    @property
    def ended(self) -> str | None:
        if self.started is None:
            return None
        span = timedelta(seconds=self.runtime.get("wall_seconds", 0))
        return (datetime.fromisoformat(self.started) + span).isoformat()

    def files(self, names: tuple[str, ...], artifacts: str) -> list[tuple[str, str]]:
        names = (*names, "receipt.json", "runtime.json")
        found = [self.folder / name for name in names if (self.folder / name).is_file()]
        return [(path.as_posix(), artifacts) for path in found]


def run_view(run: Run) -> View | None:
    """The view of `run`, or None where it is not trained with its present parameters and data.

    Raises:
        PipelineError: when a file that the receipts vouch for cannot be read.
    """
    train = _finished(run, "train")
    if train is None:
        return None
    curves = list(_curves(train))
    stages, points, texts = {"train": train}, curves, {}
    evaluate = _finished(run, "evaluate")
    if evaluate is not None:
        stages["evaluate"] = evaluate
        metrics = read_json(run.output("evaluate", "metrics.json"))
        # Step 0, at which MLflow draws a bar for each run; at a later step it draws a curve.
        points = curves + [
            Point(_key(f"{metrics['split']}/{name}"), value, 0, 0.0)
            for name, value in _scores(metrics)
            if value is not None
        ]
        texts["evaluate/per_class.json"] = _per_class(metrics, run.dataset.card.classes)
    for name, stage in stages.items():
        points = points + [
            Point(f"cost/{name}_{fact}", stage.runtime[fact], 0, 0.0)
            for fact in ("wall_seconds", "cpu_seconds", "peak_memory_mib")
            if fact in stage.runtime
        ]
    facts = {"study": run.study.name, "dataset": run.dataset.name, "method": run.method}
    return View(
        key=(RUN_KEY, run.name),
        title=run.name,
        parts={name: stage.fingerprint for name, stage in stages.items()},
        params=facts | {"model": run.model} | dict(_flat(run.parameters("train"))),
        points=points,
        tags=facts | {"model": run.model} | _provenance(run, stages) | _table_tag(texts),
        inputs=_inputs(run),
        files=train.files(("curves.csv", "config.py"), "train")
        + (evaluate.files(("metrics.json", "confusion.csv"), "evaluate") if evaluate else []),
        texts=texts,
        started=train.started,
        ended=list(stages.values())[-1].ended,
        finished=evaluate is not None,
    )


def study_view(study: Study) -> View:
    """The view of the comparison; it has the numbers and figures as soon as they are there."""
    file = study.file
    facts = {
        "kind": file.kind,
        "datasets": ", ".join(file.datasets),
        "models": ", ".join(file.models),
        "methods": ", ".join(file.methods),
        "baseline": file.baseline,
        "seeds": ", ".join(str(seed) for seed in file.seeds),
        "iterations": str(file.training.iterations),
    }
    stages = {
        name: stage
        for name in ("compare", "report")
        if (stage := _finished(study, name)) is not None
    }
    compare, report = stages.get("compare"), stages.get("report")
    parts = {name: stage.fingerprint for name, stage in stages.items()}
    ends = [stage.ended for stage in stages.values() if stage.ended]
    shown = ("*.png", "*.svg", "table.*", "*.md", "*.csv", "receipt.json", "runtime.json")
    figures = {path for glob in shown for path in study.folder("report").glob(glob)}
    return View(
        key=(STUDY_KEY, study.name),
        title=f"{study.name}: comparison",
        parts={"study": sha256_json(facts)} | parts,
        params=facts,
        points=list(_comparison(study)) if compare else [],
        tags={"study": study.name, "mlflow.note.content": note(study, table=report is not None)},
        inputs=[],
        files=[(path.as_posix(), "report") for path in sorted(figures)] if report else [],
        texts={},
        started=compare.started if compare else None,
        ended=max(ends, default=None),
        finished=compare is not None,
    )


def note(study: Study, *, table: bool) -> str:
    """What the study asks, in Markdown, and the result table of its report where there is one."""
    text = f"## {study.file.title}\n\n{study.file.description.strip()}\n"
    path = study.output("report", "table.md")
    if table and path.is_file():
        with_table = f"{text}\n{path.read_text(encoding='utf-8')}"
        text = with_table if len(with_table) <= _NOTE_LENGTH else text
    return text[:_NOTE_LENGTH]


def _finished(subject: Run | Study, stage: str) -> _Stage | None:
    """The outputs of `stage`, or None where they are missing or made from something else."""
    folder = subject.folder(stage)
    try:
        receipt = read_json(folder / "receipt.json")
    except PipelineError:
        if (folder / "receipt.json").is_file():
            raise
        return None
    if receipt["parameters"] != subject.parameters_hash(stage):
        return None
    # Inputs that are gone say nothing: results may be kept without the data. Large inputs are
    # vouched for by the receipts among the small ones.
    for name, digest in receipt["inputs"].items():
        path = Path(name)
        if path.suffix in _SMALL and path.is_file() and sha256_file(path) != digest:
            return None
    runtime = folder / "runtime.json"
    return _Stage(folder, receipt, read_json(runtime) if runtime.is_file() else {})


def _curves(train: _Stage) -> Iterator[Point]:
    """The training curves; their points are spread evenly over the time that training took."""
    path = train.folder / "curves.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    last = max((int(row["iteration"]) for row in rows), default=0)
    wall = train.runtime.get("wall_seconds", 0.0)
    for row in rows:
        step = int(row.pop("iteration"))
        for name, value in row.items():
            if value:
                key = name if "/" in name else f"train/{name}"
                yield Point(_key(key), float(value), step, round(wall * step / max(last, 1), 3))


def _scores(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    for name in ("mIoU", "mAcc", "aAcc"):
        yield name, metrics[name]
    for group, scores in metrics["groups"].items():
        yield f"mIoU/{group}", scores["mIoU"]


def _per_class(metrics: Mapping[str, Any], classes: Sequence[str]) -> str:
    """The table that MLflow shows as one: pandas' `split` orientation, classes in card order."""
    rows = [[name, metrics["IoU"][name], metrics["Acc"][name]] for name in classes]
    return json.dumps({"columns": ["class", "IoU", "Acc"], "data": rows}, ensure_ascii=False)


def _table_tag(texts: Mapping[str, str]) -> dict[str, str]:
    """The tag by which MLflow finds the artifacts that are tables."""
    tables = [{"path": path, "type": "table"} for path in texts]
    return {"mlflow.loggedArtifacts": json.dumps(tables)} if tables else {}


def _comparison(study: Study) -> Iterator[Point]:
    """Means and paired differences; the scores of single classes stay in the report's table."""
    columns = {
        "summary": ("mean", "std", "n"),
        "paired": ("mean_difference", "std_difference", "n"),
    }
    for table, wanted in columns.items():
        with study.output("compare", f"{table}.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["metric"].startswith("IoU/"):
                    continue
                where = "/".join(row[name] for name in ("dataset", "model", "method", "metric"))
                for column in wanted:
                    if row[column]:
                        key = _key(f"{table}/{where}/{column}")
                        yield Point(key, float(row[column]), 0, 0.0)


def _provenance(run: Run, stages: Mapping[str, _Stage]) -> dict[str, str]:
    """Tags by which a number is walked back to its commit, config, data, weights and device."""
    train = stages["train"]
    tags = {
        "sar.config": train.receipt["parameters"],
        "sar.weights": train.receipt["outputs"].get("weights.safetensors"),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": "pipelines.train",
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
    info = read_json(run.dataset.info)
    return [
        DataInput(
            name=f"{run.dataset.name}-{split}",
            digest=info["digests"][split][:_DIGEST_LENGTH],
            context=context,
            folder=run.dataset.prepared.as_posix(),
            images=info["counts"][split],
        )
        for split, context in (("train", "train"), (run.evaluation.split, "test"))
    ]


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Leaves of nested dicts, as (dotted key, text)."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield _key(prefix), _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _key(name: str) -> str:
    """`name` in the characters that MLflow allows in keys."""
    return re.sub(r"[^\w\-./ ]", "_", name)
