"""Send a study, or one run of it, to the tracking store; and say in one line what was not sent."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipelines.base.errors import PipelineError
from pipelines.study import Run, Study
from pipelines.track import mlflow_store, registry
from pipelines.track.connection import connection, shown_uri, tracking_uri
from pipelines.track.links import fitting, run_tables, shared_view
from pipelines.track.owner import Owner, owner
from pipelines.track.run_view import run_view
from pipelines.track.study_view import question, result, study_view
from pipelines.track.view import STUDY_KEY, View

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

BATCH = 100
"""Runs that are read and sent at once; between two batches other processes have their turn."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Synced:
    """What a sync left in the store."""

    experiment: str
    owner: Owner
    runs: dict[str, str]
    """The store's id of each run, by the run's name."""
    without_weights: list[str]
    """Runs for the registry whose weights are not here: restored ones keep none."""


def sync(study: Study, run: Run | None = None, *, register: bool = False) -> Synced:
    """Bring the store to what the local files say about `run`, or about the whole study.

    Args:
        register: also bring the model registry there, which takes the weights along.

    Raises:
        Exception: whatever keeps the store from holding all of it.
    """
    shown: dict[str, View] = {}
    ids: dict[str, str] = {}
    unreadable: list[str] = []
    without: list[str] = []
    runs = study.runs if run is None else [run]
    mine = owner()
    for first in range(0, len(runs), BATCH):
        views = _views(runs[first : first + BATCH], unreadable)
        with connection() as client:
            experiment, index, parent = _open(client, study, run, mine)
            for name, view in views.items():
                ids[name] = mlflow_store.update(client, experiment, mine, index, view, parent)
                # Of a thousand runs, what the tables say, and not all points.
                shown[name] = replace(view, points=[], files=[], texts={})
            if first + BATCH < len(runs):
                continue
            if run is None:
                mlflow_store.put_below(client, index, parent)
                tables = run_tables(study, experiment, shown, ids)
                note = fitting([question(study), result(study), *tables])
                mlflow_store.set_note(client, index[STUDY_KEY, study.name], note)
            if register:
                for item in registry.registered_runs(study):
                    again = run_view(item) if item.name in ids else None
                    if again is None or again.grows:
                        continue
                    if not registry.register(client, mine, item, again, ids[item.name]):
                        without.append(item.name)
    if unreadable:
        raise PipelineError("; ".join(unreadable))
    return Synced(experiment, mine, ids, without)


def _views(runs: Sequence[Run], unreadable: list[str]) -> dict[str, View]:
    """By name, those of the runs that began; why one cannot be read is added to `unreadable`."""
    views: dict[str, View] = {}
    for item in runs:
        try:
            view = run_view(item)
        except PipelineError as error:
            unreadable.append(str(error))
            continue
        if view is not None:
            views[item.name] = view
    return views


def _open(
    client: MlflowClient, study: Study, run: Run | None, mine: Owner
) -> tuple[str, mlflow_store.Index, str]:
    """The experiment of the study, its records, and the one that the runs belong under."""
    experiment = mlflow_store.open_experiment(
        client, study.name, question(study), mine, shared_view(mine)
    )
    only = None if run is None else run.name
    index = mlflow_store.find_records(client, experiment, mine, only)
    known = index.get((STUDY_KEY, study.name))
    if run is None or known is None:
        parent = mlflow_store.update(client, experiment, mine, index, study_view(study))
        return experiment, index, parent
    # The comparison waits for the study's own sync: it changes when all runs are there.
    return experiment, index, known.info.run_id


def attempt(study: Study, run: Run | None = None, *, register: bool = False) -> Synced | None:
    """`sync` as well as it can be done: what could not be sent is one warning in the log, not an
    error."""
    try:
        return sync(study, run, register=register)
    # Whatever it is, a full disk or an MLflow that does not import, the work itself is done and
    # must not fail for it.
    except Exception as error:
        warn_unsent(study, run, error)
        return None


def warn_unsent(study: Study, run: Run | None, error: Exception) -> None:
    """Say once what is not sent, why, and how to send it."""
    what = f"study {study.name}" if run is None else f"run {run.name} of study {study.name}"
    warn(f"{what} is not all sent", error, (run or study).command("track"))


def warn(what: str, error: Exception, command: str) -> None:
    uri = shown_uri()
    reason = _reason(error).replace(tracking_uri(), uri)
    _log.warning("MLflow (%s): %s: %s. Send it with: %s", uri, what, reason, command)


def _reason(error: BaseException) -> str:
    """One line: what `error` says, and at its root, which MLflow's messages bury or leave out."""
    root = error
    while under := root.__cause__ or root.__context__:
        root = under
    first, last = (" ".join(str(e).split()) or type(e).__name__ for e in (error, root))
    first = first if len(first) <= 200 else f"{first[:200]} ..."
    return first if last in first else f"{first}: {last[:200]}"
