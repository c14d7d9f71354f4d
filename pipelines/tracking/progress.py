"""A training that goes on or broke off, read from its work folder: curve, times and state.

mmengine writes the values that it logs; beside them `live.LiveCurves` writes `times.csv`: when the
training began (iteration 0) and when it passed an iteration, each for the first time. A point gets
its time from that file, by interpolation, and a time once written never changes: so whoever shows
the curve, early or late, once or again, shows each point at the same time.
"""

from __future__ import annotations

import fcntl
import json
import os
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipelines.artifacts import sha256_file, sha256_json
from pipelines.study import Run

TIMES = "times.csv"
LOCK = "training.lock"
"""Locked by the process that trains, for as long as it lives."""
FAILED = "failed"
"""Is there when the training ended with an error, and was not killed."""

_NOT_REPRODUCIBLE = {"time", "data_time", "memory", "eta", "epoch", "iter", "step"}

Curves = dict[int, dict[str, float]]
"""Logged values by iteration and name."""


@dataclass(frozen=True)
class Progress:
    """How far a training is that has not published its results."""

    curves: Curves
    times: dict[int, int]
    """Unix time in milliseconds by iteration, ascending; the first is when the training began."""
    id: str
    """Another one when points that may have been shown are no longer true."""
    status: Literal["RUNNING", "FAILED", "KILLED"]

    @property
    def logged(self) -> dict[str, Any]:
        """What `runtime.json` keeps of it, so that the finished curve agrees with this one."""
        return {"id": self.id, "times": {str(step): time for step, time in self.times.items()}}


def work_folder(run: Run) -> Path:
    """Where `run` is trained with its present parameters and data, which have to be prepared."""
    return run.work(sha256_json([run.parameters_hash("train"), sha256_file(run.dataset.receipt)]))


def read_progress(work: Path) -> Progress | None:
    """None where no training began."""
    marks = [line.split(",") for line in _whole_lines(work / TIMES)]
    if not marks:
        return None
    times: dict[int, int] = {}
    for step, time in marks:
        times.setdefault(int(step), int(time))
    curves, superseded = _read(work)
    status = "FAILED" if (work / FAILED).exists() else "KILLED"
    return Progress(
        curves=curves,
        times=times,
        id=sha256_json([work.name, min(times.values()), superseded]),
        status="RUNNING" if _is_locked(work / LOCK) else status,
    )


def read_curves(work: Path) -> Curves:
    """Logged values by iteration, over all interruptions of a training; later lines count.

    Values that depend on the machine (time, memory) are left out.
    """
    return _read(work)[0]


def clock(times: Mapping[int, int]) -> Callable[[int], float]:
    """A function that gives the seconds from the start of a training to an iteration of it."""
    steps = sorted(times)
    start = times[steps[0]]

    def seconds(step: int) -> float:
        right = min(bisect_left(steps, step), len(steps) - 1)
        left = max(right - 1, 0)
        a, b = steps[left], steps[right]
        share = min(max((step - a) / (b - a), 0.0), 1.0) if b > a else 0.0
        return (times[a] - start + round(share * (times[b] - times[a]))) / 1000

    return seconds


def _read(work: Path) -> tuple[Curves, list[Any]]:
    """The curves, and the values that a resumed training replaced by others.

    On a CPU it repeats them; on a GPU it may not.
    """
    curves: Curves = {}
    superseded = []
    for path in sorted(work.glob("*/vis_data/scalars.json")):
        for line in _whole_lines(path):
            values = json.loads(line)
            point = curves.setdefault(int(values["step"]), {})
            for name, value in values.items():
                if name in _NOT_REPRODUCIBLE:
                    continue
                if name in point and repr(point[name]) != repr(value):
                    superseded.append([values["step"], name, repr(point[name])])
                point[name] = value
    return curves, superseded


def _whole_lines(path: Path) -> Iterator[str]:
    """Lines of a file that another process may be writing, or was killed in writing."""
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                yield line


def _is_locked(path: Path) -> bool:
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(file)
