"""Have a process of its own track: at the end of a stage, or along a training (`live`).

Another process rather than a thread: a thread would share with the work its interpreter, its CPU
time and memory, which are published as the cost of training, and its logging and environment, which
MLflow changes. And a process can be ended, whatever it hangs in.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pipelines.base.artifacts import read_json
from pipelines.study import Run, Study
from pipelines.track.sync import warn_unsent
from pipelines.track.worker import NOT_SENT, SENT, Task

PATIENCE = 30
"""Seconds after which the end of a stage does not wait for the tracking store any longer."""

EVERY = "SAR_PUSH_EVERY"
"""Environment variable: seconds between two pushes of short stages. Whoever sets it, as the
Snakefile does, sends all runs at the end of the study; without it each stage is sent at its end."""

_warned: set[str] = set()
"""Names of runs that this process, or its worker, has already warned about."""


def push(study: Study, run: Run | None = None) -> bool:
    """Send `run`, or the whole study, to the tracking store as well as it can be done.

    For the end of other stages: it never raises, and returns after `PATIENCE` seconds at the
    latest. What could not be sent is one warning in the log, with the reason and the command that
    sends it later. Weights are not sent: they can be large, and the study's own sync has the time.

    Returns:
        Whether the store now holds all that the local files say.
    """
    warn = run is None or run.name not in _warned
    try:
        status = wait(start(Task(study, run, warn=warn)), PATIENCE)
        if status is None:
            raise TimeoutError(f"no end in sight after {PATIENCE} seconds")
        if status not in (SENT, NOT_SENT):
            raise ChildProcessError(f"the tracking process ended with status {status}")
        return status == SENT
    # As in `sync.attempt`.
    except Exception as error:
        if warn:
            warn_unsent(study, run, error)
        return False


def push_when_due(run: Run) -> None:
    """`push` a stage of `run` that has ended, unless that would cost a short one too much.

    A push takes seconds of CPU. A run that trained for at least `EVERY` seconds is always sent; a
    shorter one when the study's last push is as old as that.
    """
    every = float(os.environ.get(EVERY, 0))
    stamp = run.study.work / "pushed"
    trained = run.output("train", "runtime.json")
    short = trained.is_file() and read_json(trained)["wall_seconds"] < every
    if short and stamp.exists() and time.time() - stamp.stat().st_mtime < every:
        return
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.touch()
    push(run.study, run)


def start(task: Task, connection: socket.socket | None = None) -> subprocess.Popen:
    """Start a worker.

    It has a session of its own, so that an interrupt from the terminal is the work's to handle.

    Args:
        connection: its end of the socket that it shares with a training.
    """
    words = [sys.executable, "-m", "pipelines.track.worker"]
    # It imports the same package, however this process came by it.
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    passed = () if connection is None else (connection.fileno(),)
    with tempfile.TemporaryFile() as file:
        pickle.dump(task, file)
        file.seek(0)
        return subprocess.Popen(
            [*words, *map(str, passed)],
            env=environment,
            stdin=file,
            stdout=subprocess.DEVNULL,
            pass_fds=passed,
            start_new_session=True,
        )


def wait(worker: subprocess.Popen, seconds: float) -> int | None:
    """The exit status of a worker, or None when it had to be ended after so many seconds.

    Nothing is lost with it: whatever it sends, the next sync sends.
    """
    try:
        return worker.wait(seconds)
    except subprocess.TimeoutExpired:
        worker.kill()
        return None


def remember_warning(run: Run) -> None:
    """A warning about `run` was given: one for each command is enough."""
    _warned.add(run.name)
