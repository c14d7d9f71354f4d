"""Bring a tracking store to what views say, again and again, without duplicates.

Idempotent by construction rather than by comparison: every point of a view has a time that depends
only on the run's start and the view, and MLflow's stores keep one copy of a point with the same
key, step, time and value, one of a parameter, and one of a data set. So a sync that broke off is
simply run again. What a store cannot take back (points, parameters) is replaced together with its
run; the old one is marked deleted, for `mlflow gc` to remove.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

from pipelines.study import WORK
from pipelines.tracking.view import RUN_KEY, DataInput, View

if TYPE_CHECKING:
    from mlflow.entities import Run as Record
    from mlflow.tracking import MlflowClient

DEFAULT_URI = "sqlite:///mlflow.db"
"""Where `mlflow ui`, started in the project root with no arguments, looks."""

LOCAL_UI = "http://127.0.0.1:5000"
"""Where `mlflow ui` listens when it is given no arguments."""

_PARENT = "mlflow.parentRunId"
_NOTE = "mlflow.note.content"
_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""Experiment tag by which the UI shows runs and curves, and not the pages for language models."""
_PART = "sar.part."
_SENT = "sar.sent"
"""Fingerprint of the view that the store holds in full: set last."""

_LOCK_SECONDS = 60
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # MLflow would wait for many minutes for a server that is down; work must not.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}

Index = dict[tuple[str, str], "Record"]


def tracking_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def shown_uri() -> str:
    """The tracking URI without a password."""
    uri = tracking_uri()
    password = urlsplit(uri).password
    return uri.replace(f":{password}@", ":***@") if password else uri


@contextmanager
def connection() -> Iterator[MlflowClient]:
    """A client of the store, which is created where it is new; one process at a time.

    The lock keeps processes that start together from migrating one sqlite file at once, and from
    creating one study's run twice. A store on a server is locked per project.
    """
    from filelock import FileLock

    uri = tracking_uri()
    file = _sqlite_file(uri)
    lock = WORK / "track.lock" if file is None else Path(f"{file}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with _quiet():
        from mlflow.tracking import MlflowClient

        with FileLock(lock, timeout=_LOCK_SECONDS):
            if file is not None and not file.exists():
                _create(file)
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            client.search_experiments(max_results=1)
            yield client


def _sqlite_file(uri: str) -> Path | None:
    if not uri.startswith("sqlite:///"):
        return None
    return Path(uri.removeprefix("sqlite:///").partition("?")[0])


def _create(file: Path) -> None:
    """A new sqlite store, whole or not at all: MLflow cannot go on with half of its tables."""
    from mlflow.tracking import MlflowClient

    new = Path(f"{file}.new")
    for leftover in (new, Path(f"{new}-journal")):
        leftover.unlink(missing_ok=True)
    uri = f"sqlite:///{new}"
    MlflowClient(tracking_uri=uri, registry_uri=uri).search_experiments(max_results=1)
    new.replace(file)


@contextmanager
def _quiet() -> Iterator[None]:
    """MLflow's settings for this block, where the user has none, and none of its chatter.

    What goes wrong arrives as an exception; the log lines that announce it beforehand are noise.
    """
    added = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    disabled = logging.root.manager.disable
    os.environ.update(added)
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)
        for name in added:
            os.environ.pop(name, None)


def open_experiment(client: MlflowClient, name: str, note: str) -> str:
    """The id of the experiment `name`, created, or restored, where necessary."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return client.create_experiment(name, tags={_NOTE: note} | _TRAINING)
        except MlflowException:
            # Another machine was faster, or else the store has a reason that the next line meets.
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    if experiment.tags.get(_NOTE) != note:
        client.set_experiment_tag(experiment.experiment_id, _NOTE, note)
    return experiment.experiment_id


def find_records(client: MlflowClient, experiment: str, tags: tuple[str, ...]) -> Index:
    """The experiment's runs by (tag, value), for these tags; of two with one key, one is deleted.

    The lock cannot keep two machines from creating the same run at once; this puts it right.
    """
    records, token = [], None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        records += page
        token = page.token
        if not token:
            break
    index: Index = {}
    for record in sorted(records, key=lambda r: (_SENT not in r.data.tags, r.info.run_id)):
        for tag in tags:
            key = (tag, record.data.tags.get(tag))
            if key[1] is None:
                continue
            if key in index:
                client.delete_run(record.info.run_id)
            index.setdefault(key, record)
    return index


def bring(
    client: MlflowClient, experiment: str, index: Index, view: View, parent: str | None = None
) -> str:
    """Make the store hold `view`, under the run `parent`; returns the id of its run."""
    from mlflow.entities import RunTag

    record = index.get(view.key)
    if record is not None and not _shown_parts(record).items() <= view.parts.items():
        client.delete_run(record.info.run_id)
        record = None
    parts = {f"{_PART}{name}": fingerprint for name, fingerprint in view.parts.items()}
    under = {_PARENT: parent} if parent else {}
    if record is None:
        record = client.create_run(
            experiment,
            start_time=_milliseconds(view.started) or int(1000 * time.time()),
            tags=dict([view.key]) | parts | under,
            run_name=view.title,
        )
        index[view.key] = record
    run_id = record.info.run_id
    if record.data.tags.get(_PARENT) != parent and parent:
        client.set_tag(run_id, _PARENT, parent)
    if record.data.tags.get(_SENT) == view.fingerprint:
        return run_id
    # First what it is going to show, so that a sync that breaks off leaves no unnamed points.
    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in parts.items()])
    _send(client, record, view)
    client.set_tag(run_id, _SENT, view.fingerprint)
    return run_id


def adopt(client: MlflowClient, index: Index, parent: str) -> None:
    """Put every run of the experiment under `parent`, which may have replaced another."""
    for (tag, _), record in index.items():
        if tag == RUN_KEY and record.data.tags.get(_PARENT) != parent:
            client.set_tag(record.info.run_id, _PARENT, parent)


def comparison_url(experiment: str) -> str:
    """Where `mlflow ui`, or the server, draws the curves of an experiment's runs together.

    Sorted by seed, since MLflow folds the runs under their parent unless they are sorted, and draws
    the first ten at first: whole pairs of methods.
    """
    uri = shown_uri()
    base = uri.rstrip("/") if uri.startswith(("http:", "https:")) else LOCAL_UI
    query = {
        "workflowType": "machine_learning",
        "compareRunsMode": "CHART",
        "searchFilter": f"tags.`{RUN_KEY}` LIKE '%'",
        "orderByKey": "params.`seed`",
        "orderByAsc": "true",
    }
    return f"{base}/#/experiments/{experiment}/runs?{urlencode(query, quote_via=quote)}"


def _shown_parts(record: Record) -> dict[str, str]:
    tags = record.data.tags
    return {
        name.removeprefix(_PART): value for name, value in tags.items() if name.startswith(_PART)
    }


def _send(client: MlflowClient, record: Record, view: View) -> None:
    from mlflow.entities import Metric, Param, RunTag

    run_id, start = record.info.run_id, record.info.start_time
    client.log_batch(
        run_id,
        metrics=[
            Metric(p.key, p.value, start + round(1000 * p.seconds), p.step) for p in view.points
        ],
        params=[Param(name, value) for name, value in view.params.items()],
        tags=[RunTag(name, value) for name, value in view.tags.items()],
    )
    if view.inputs:
        client.log_inputs(run_id, datasets=[_dataset(item) for item in view.inputs])
    for path, folder in view.files:
        client.log_artifact(run_id, path, folder)
    for path, text in view.texts.items():
        client.log_text(run_id, text, path)
    if view.finished:
        end = max(start, _milliseconds(view.ended) or int(1000 * time.time()))
        client.set_terminated(run_id, "FINISHED", end)


def _dataset(item: DataInput):
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=item.name,
        digest=item.digest,
        source_type="local",
        source=json.dumps({"uri": item.folder}),
        profile=json.dumps({"images": item.images}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", item.context)])


def _milliseconds(iso: str | None) -> int | None:
    return None if iso is None else round(1000 * datetime.fromisoformat(iso).timestamp())
