"""Bring a tracking store to what views say, again and again, without duplicates.

A store may be shared: what is found, changed or deleted here is its owner's alone.

Idempotent by construction rather than by comparison: every point of a view has a time that depends
only on the run's start and the view, and MLflow's stores keep one copy of a point with the same
key, step, time and value, one of a parameter, and one of a data set. So a sync that broke off is
simply run again, and a curve that is shown while it grows is completed in place: it gives its
points the times that the finished one gives them. What a store cannot take back (points,
parameters) is replaced together with its run; the old one is marked deleted, for `mlflow gc` to
remove.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.track.connection import artifact_folder, sqlite_file
from pipelines.track.owner import OWNER_KEY, Owner
from pipelines.track.relocation import follow
from pipelines.track.view import RUN_KEY, STUDY_KEY, DataInput, View

if TYPE_CHECKING:
    from mlflow.entities import Run as Record
    from mlflow.tracking import MlflowClient

NOTE = "mlflow.note.content"

_PARENT = "mlflow.parentRunId"
_USER = "mlflow.user"
_SHARED_VIEW = "mlflow.sharedViewState."
_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""Experiment tag by which the UI shows runs and curves, and not the pages for language models."""
_PART = "sar.part."
_STEP = "sar.step"
"""All points of a curve before this iteration are in the store."""
_SENT = "sar.sent"
"""Fingerprint of the view that the store holds in full: set last."""

Index = dict[tuple[str, str], "Record"]


def open_experiment(
    client: MlflowClient, name: str, note: str, owner: Owner, shared_view: Mapping[str, Any]
) -> str:
    """The id of the experiment `name`, created, or restored, where necessary.

    Args:
        shared_view: what its pages show of the owner's runs, under the owner's key.
    """
    from mlflow.exceptions import MlflowException

    tags = {NOTE: note, f"{_SHARED_VIEW}{owner.key}": json.dumps(shared_view)}
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return client.create_experiment(name, artifact_folder(name), tags=tags | _TRAINING)
        except MlflowException:
            # Another machine was faster, or else the store has a reason that the next line meets.
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    place, store = artifact_folder(name), sqlite_file()
    if place and store and experiment.artifact_location != place and Path(place).is_dir():
        follow(store, experiment.artifact_location, place)
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    for tag, text in tags.items():
        if experiment.tags.get(tag) != text:
            client.set_experiment_tag(experiment.experiment_id, tag, text)
    return experiment.experiment_id


def find_records(
    client: MlflowClient, experiment: str, owner: Owner, run: str | None = None
) -> Index:
    """The owner's runs by (tag, value): all in the experiment, or that of `run` and the comparison.

    The lock cannot keep two machines from creating the same run at once. When all are asked for,
    one of two with one key is deleted; when one is, the others may be another machine's at work.
    """
    wanted = [""]
    if run is not None:
        wanted = [f"tags.`{RUN_KEY}` = '{run}'", f"tags.`{STUDY_KEY}` LIKE '%'"]
    records = [record for text in wanted for record in _search(client, experiment, text)]
    index: Index = {}
    own = [record for record in records if record.data.tags.get(OWNER_KEY) == owner.key]
    for record in sorted(own, key=lambda r: (_SENT not in r.data.tags, r.info.run_id)):
        for tag in (RUN_KEY, STUDY_KEY):
            value = record.data.tags.get(tag)
            if value is None:
                continue
            key = (tag, value)
            if key in index and run is None:
                client.delete_run(record.info.run_id)
            index.setdefault(key, record)
    return index


def update(
    client: MlflowClient,
    experiment: str,
    owner: Owner,
    index: Index,
    view: View,
    parent: str | None = None,
) -> str:
    """Make the store hold the owner's `view`, under the run `parent`; returns its run's id.

    Args:
        index: what `find_records` found; it is kept up to date.
    """
    from mlflow.entities import RunTag

    record = index.get(view.key)
    if record is not None and not _shown_parts(record).items() <= view.parts.items():
        client.delete_run(record.info.run_id)
        record = None
    parts = {f"{_PART}{name}": fingerprint for name, fingerprint in view.parts.items()}
    if record is None:
        record = client.create_run(
            experiment,
            start_time=_milliseconds(view.started) or int(1000 * time.time()),
            tags=dict([view.key, (OWNER_KEY, owner.key), (_USER, owner.user)])
            | parts
            | ({_PARENT: parent} if parent else {}),
            run_name=owner.titled(view.title),
        )
        index[view.key] = record
    run_id = record.info.run_id
    if record.data.tags.get(_PARENT) != parent and parent:
        client.set_tag(run_id, _PARENT, parent)
    if record.data.tags.get(_SENT) == view.fingerprint:
        return run_id
    # First what it is going to show, so that a sync that breaks off leaves no unnamed points.
    if _shown_parts(record) != view.parts:
        client.log_batch(run_id, tags=[RunTag(name, value) for name, value in parts.items()])
    _send(client, record, view)
    last = max((point.step for point in view.points), default=0)
    done = {_STEP: str(last), _SENT: view.fingerprint}
    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in done.items()])
    return run_id


def put_below(client: MlflowClient, index: Index, parent: str) -> None:
    """Put every run of the index under `parent`, which may have replaced another."""
    for (tag, _), record in index.items():
        if tag == RUN_KEY and record.data.tags.get(_PARENT) != parent:
            client.set_tag(record.info.run_id, _PARENT, parent)


def set_note(client: MlflowClient, record: Record, text: str) -> None:
    """Make `text` the note of a run."""
    if record.data.tags.get(NOTE) != text:
        client.set_tag(record.info.run_id, NOTE, text)


def _search(client: MlflowClient, experiment: str, wanted: str) -> list[Record]:
    records: list[Record] = []
    token = None
    while True:
        page = client.search_runs([experiment], wanted, max_results=1000, page_token=token)
        records += page
        token = page.token
        if not token:
            return records


def _shown_parts(record: Record) -> dict[str, str]:
    tags = record.data.tags
    return {
        name.removeprefix(_PART): value for name, value in tags.items() if name.startswith(_PART)
    }


def _send(client: MlflowClient, record: Record, view: View) -> None:
    from mlflow.entities import Metric, Param, RunTag

    run_id, start, tags = record.info.run_id, record.info.start_time, record.data.tags
    sent = int(tags.get(_STEP, 0))
    metrics = [
        Metric(p.key, p.value, start + round(1000 * p.seconds), p.step)
        for p in view.points
        if p.step == 0 or p.step >= sent
    ]
    if view.grows and _STEP in tags:
        client.log_batch(run_id, metrics=metrics)
    else:
        client.log_batch(
            run_id,
            metrics=metrics,
            params=[Param(name, value) for name, value in view.params.items()],
            tags=[RunTag(name, value) for name, value in view.tags.items()],
        )
        for item in view.inputs:
            _log_input(client, run_id, item)
    for path, folder in view.files:
        client.log_artifact(run_id, path, folder)
    for path, text in view.texts.items():
        client.log_text(run_id, text, path)
    if view.status not in ("RUNNING", "SCHEDULED"):
        end = max(start, _milliseconds(view.ended) or int(1000 * time.time()))
        client.set_terminated(run_id, view.status, end)
    elif record.info.status != view.status:
        client.update_run(run_id, status=view.status)


def _log_input(client: MlflowClient, run_id: str, item: DataInput) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import BAD_REQUEST, ErrorCode

    dataset = Dataset(
        name=item.name,
        digest=item.digest,
        source_type="local",
        source=json.dumps({"uri": item.folder}),
        profile=json.dumps({"images": item.images}),
    )
    datasets = [DatasetInput(dataset, [InputTag("mlflow.data.context", item.context)])]
    try:
        client.log_inputs(run_id, datasets=datasets)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(BAD_REQUEST):
            raise
        # MLflow trips over another run that brings the same data set at the same moment; then it
        # is there.
        client.log_inputs(run_id, datasets=datasets)


def _milliseconds(iso: str | None) -> int | None:
    return None if iso is None else round(1000 * datetime.fromisoformat(iso).timestamp())
