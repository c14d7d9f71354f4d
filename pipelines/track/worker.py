"""The process that tracks beside the work: once at the end of a stage, or along a training.

`push.start` starts it and sends it a `Task` on its standard input. At the end of a stage it brings
the store up to date once. Its exit status is then `SENT` or `NOT_SENT`, after a warning or for one
that `Task.warn` forbids.

Along a training it does so again and again, until the training has finished or is gone; in the
second case it shows the run as failed or killed. The two share a socket, on which a message is one
byte:

    FINISHED    training to worker: it ended well. The worker ends without sending once more: the
                last state is sent when the results of the training are published.
    SYNC_FAILS  worker to training: a sync failed where the one before did not. There has been a
                warning, so that the training need not warn when it publishes its results.
    SYNC_WORKS  worker to training: a sync succeeded after one that failed.

A training that closes its end, or is killed, without `FINISHED` has failed.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import sys
import time
from dataclasses import dataclass

from pipelines.running.progress import read_progress, work_folder
from pipelines.study import Run, Study
from pipelines.track.connection import quiet, tracking_uri
from pipelines.track.sync import Synced, sync, warn_unsent

FINISHED, SYNC_FAILS, SYNC_WORKS = b".", b"-", b"+"

SENT, NOT_SENT = 0, 3

_LONGEST_WAIT = 600
"""Seconds; the pause doubles with each failure up to this."""


@dataclass(frozen=True)
class Task:
    """What to send, and how often."""

    study: Study
    run: Run | None
    every: float | None = None
    """Seconds between two looks at the training of `run`; None sends once."""
    gpu: bool = False
    """Whether to log the use of the machine, for a training on a GPU."""
    warn: bool = True
    """Whether to warn when something is not sent."""


def main(argv: list[str]) -> int:
    task: Task = pickle.load(sys.stdin.buffer)
    if task.run is None or task.every is None:
        return SENT if _try_to_sync(task, task.warn) else NOT_SENT
    return _follow(task, task.run, task.every, socket.socket(fileno=int(argv[0])))


def _try_to_sync(task: Task, warn: bool) -> Synced | None:
    """Bring the store up to date; None, after a warning where one is wanted, when it fails."""
    try:
        return sync(task.study, task.run)
    # As in `sync.attempt`: whatever it is, the work goes on.
    except Exception as error:
        if warn:
            warn_unsent(task.study, task.run, error)
        return None


def _follow(task: Task, run: Run, every: float, training: socket.socket) -> int:
    """Sync the run every so often, until the training has finished or is gone."""
    # The training's steps come first where there is not a core for each.
    os.nice(10)
    failures, warned, monitored = 0, False, ""
    while True:
        shown = _try_to_sync(task, warn=not warned)
        if shown is None:
            failures += 1
            warned = True
            if failures == 1:
                _send(training, SYNC_FAILS)
        else:
            if failures:
                _send(training, SYNC_WORKS)
            failures = 0
            if task.gpu and monitored != shown.runs[run.name]:
                monitored = shown.runs[run.name]
                _monitor(monitored)
        message = _receive(training, min(every * 2**failures, _LONGEST_WAIT))
        if message == FINISHED:
            return SENT
        if message is not None:
            _wait_for_the_end(run)
            return SENT if _try_to_sync(task, warn=not warned) else NOT_SENT


def _send(training: socket.socket, message: bytes) -> None:
    # The training may be gone, which `_receive` notices.
    with contextlib.suppress(ConnectionError):
        training.send(message)


def _receive(training: socket.socket, seconds: float) -> bytes | None:
    """A message, None when there is none within `seconds`, or b"" when the training is gone."""
    training.settimeout(seconds)
    try:
        return training.recv(1)
    except TimeoutError:
        return None
    except ConnectionError:
        return b""


def _wait_for_the_end(run: Run) -> None:
    """The system closes a killed process's files one after the other, its lock maybe last."""
    for _ in range(50):
        progress = read_progress(work_folder(run))
        if progress is None or progress.status != "RUNNING":
            return
        time.sleep(0.1)


def _monitor(run_id: str) -> None:
    """Start MLflow's own thread that logs the use of GPUs, CPU and memory every ten seconds.

    It ends with this process or at its first failure. Its points are in no local file: what an
    outage swallows of them is gone.
    """
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    with quiet():
        SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=tracking_uri()).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
