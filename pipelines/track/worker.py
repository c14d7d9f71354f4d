"""The process that tracks beside the work: once at the end of a stage, or along a training.

`push.start` starts it and sends it a `Task` on its standard input; along a training, the two also
share a socket. The worker sends the curve again and again until the training says that it is over,
or is gone: then it shows the run as failed or killed, and ends.

Exit status of a task that sends once: 0 when all was sent, 3 when not, after a warning or for one
that `Task.tell` forbids.
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
from pipelines.track.sync import Shown, sync, warn_unsent

OVER = b"."
"""What a training says that ended well; its last state is sent when its results are published."""

BEHIND, LEVEL = b"-", b"+"
"""What the worker says when it has begun to warn, and when it has caught up after that."""

_LONGEST_WAIT = 600


@dataclass(frozen=True)
class Task:
    """What to send, and how often."""

    study: Study
    run: Run | None
    every: float | None = None
    """Seconds between two looks at the training of `run`; None sends once."""
    gpu: bool = False
    tell: bool = True
    """Whether to warn when something is not sent."""


def main(argv: list[str]) -> int:
    task: Task = pickle.load(sys.stdin.buffer)
    if task.run is None or task.every is None:
        return 0 if _send(task, task.tell) else 3
    return _follow(task, task.run, task.every, socket.socket(fileno=int(argv[0])))


def _send(task: Task, tell: bool) -> Shown | None:
    try:
        return sync(task.study, task.run)
    # As in `sync.attempt`: whatever it is, the work goes on.
    except Exception as error:
        if tell:
            warn_unsent(task.study, task.run, error)
        return None


def _follow(task: Task, run: Run, every: float, training: socket.socket) -> int:
    """Send the run every so often, until the training says or shows that it ends."""
    # The training's steps come first where there is not a core for each.
    os.nice(10)
    failures, told, monitored = 0, False, ""
    while True:
        shown = _send(task, tell=not told)
        if shown is None:
            failures += 1
            if failures == 1:
                _say(training, BEHIND)
            told = True
        else:
            if failures:
                _say(training, LEVEL)
            failures = 0
            if task.gpu and monitored != shown.runs[run.name]:
                monitored = shown.runs[run.name]
                _monitor(monitored)
        word = _listen(training, min(every * 2**failures, _LONGEST_WAIT))
        if word == OVER:
            return 0
        if word is not None:
            _wait_for_the_end(run)
            return 0 if _send(task, tell=not told) else 3


def _say(training: socket.socket, word: bytes) -> None:
    # It may be gone, which the next word from it shows.
    with contextlib.suppress(ConnectionError):
        training.send(word)


def _listen(training: socket.socket, seconds: float) -> bytes | None:
    """None when nothing was said within `seconds`, b"" when the training is gone."""
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
