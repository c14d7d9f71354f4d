"""Show the curve of a training in MLflow while it grows.

The training itself only writes down when it passed which iteration; a process of its own
(`worker`) looks at the work folder every so often and sends what is new. The work never waits for
it, but for a moment at the end, and no random state is touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook

from pipelines.base.artifacts import write_whole
from pipelines.running.curves import whole_lines
from pipelines.running.progress import FAILED, LOCK, TIMES, read_times
from pipelines.study import Run
from pipelines.track.push import remember_warning, start, wait
from pipelines.track.sync import warn_unsent
from pipelines.track.worker import FINISHED, SYNC_FAILS, Task

FIRST = 60.0
"""Seconds of training before the curve is sent for the first time: short ones pay nothing."""

EVERY = 30.0
"""Seconds between two looks at the training after that."""

_LAST_WAIT = 5.0


@contextlib.contextmanager
def live_curves(run: Run, work: Path) -> Iterator[LiveCurves]:
    """A hook for the training of `run` in `work`.

    For the time from before the training to after its results are published: within it the run is
    shown as running, after an error as failed, and after a kill as killed.
    """
    work.mkdir(parents=True, exist_ok=True)
    (work / FAILED).unlink(missing_ok=True)
    hook = LiveCurves(run, work)
    with (work / LOCK).open("w") as file:
        hook.guard(lambda: _lock(file.fileno()))
        try:
            yield hook
        except Exception:
            hook.guard((work / FAILED).touch)
            raise
        finally:
            hook.close()


class LiveCurves(Hook):
    """Write down the times of a training, and have its curve sent."""

    priority = "LOWEST"  # After the hooks that log: what has a time is in the log.

    def __init__(self, run: Run, work: Path) -> None:
        self._run, self._times = run, work / TIMES
        self._last = -1
        self._began = time.monotonic()
        self._worker: subprocess.Popen | None = None
        self._connection: socket.socket | None = None
        self._enabled = True

    def before_train(self, runner: Any) -> None:
        self._began = time.monotonic()
        self.guard(lambda: self._begin(runner.iter))

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        iteration = runner.iter + 1
        if iteration % self._run.training.log_interval == 0:
            self.guard(lambda: self._write_down(iteration))
        if self._worker is None and time.monotonic() - self._began >= FIRST:
            self.guard(self._start)

    def after_train(self, runner: Any) -> None:
        self.guard(lambda: self._write_down(runner.iter))
        self.guard(self._finish)

    def guard(self, action: Callable[[], None]) -> None:
        """The training must not fail for its view: after an error there is none."""
        if self._enabled:
            try:
                action()
            except Exception as error:
                self._enabled = False
                warn_unsent(self._run.study, self._run, error)
                remember_warning(self._run)

    def close(self) -> None:
        """Let go of the worker, which takes the training for dead unless it was sent FINISHED."""
        if self._connection is not None:
            self._connection.close()

    def _begin(self, iteration: int) -> None:
        if self._times.is_file():
            # A kill may have torn its last line.
            write_whole(self._times, "".join(whole_lines(self._times, self._times.parent)))
            self._last = max(read_times(self._times), default=-1)
        self._write_down(iteration)

    def _write_down(self, iteration: int) -> None:
        if iteration > self._last:
            with self._times.open("a", encoding="utf-8") as file:
                file.write(f"{iteration},{round(1000 * time.time())}\n")
            self._last = iteration

    def _start(self) -> None:
        self._connection, theirs = socket.socketpair()
        with theirs:
            task = Task(self._run.study, self._run, EVERY, gpu=torch.cuda.is_available())
            self._worker = start(task, theirs)

    def _finish(self) -> None:
        if self._worker is None or self._connection is None:
            return
        # Where the worker ended before its time there is nobody to talk to.
        with contextlib.suppress(ConnectionError):
            self._connection.send(FINISHED)
        wait(self._worker, _LAST_WAIT)
        self._connection.setblocking(False)
        with contextlib.suppress(BlockingIOError, ConnectionError):
            if self._connection.recv(4096).endswith(SYNC_FAILS):
                remember_warning(self._run)


def _lock(file: int) -> None:
    """Take the lock; another process holds it for a moment when it looks whether it is taken."""
    for _ in range(100):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(0.01)
