"""A training that goes on or broke off, read from its work folder: curve, times and state.

mmengine writes the values that it logs; beside them `live.LiveCurves` writes `times.csv`: when the
training began (iteration 0) and when it passed an iteration, each for the first time. A point gets
its time from that file, by interpolation, and a time once written never changes: so whoever shows
the curve, early or late, once or again, shows each point at the same time.
"""

from __future__ import annotations

import fcntl
import os
import statistics
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipelines.base.artifacts import sha256_file, sha256_json
from pipelines.base.reading import reading
from pipelines.running.curves import Curves, logs, read_log, whole_lines, whole_records
from pipelines.study import Run

TIMES = "times.csv"
LOCK = "training.lock"
"""Locked by the process that trains, for as long as it lives."""
FAILED = "failed"
"""Is there when the training ended with an error, and was not killed."""


@dataclass(frozen=True)
class Progress:
    """How far a training is that has not published its results."""

    curves: Curves
    times: dict[int, int]
    """Unix time in milliseconds by iteration, ascending; the first is when the training began."""
    id: str
    """Another one when points that may have been shown are no longer true."""
    status: Literal["RUNNING", "FAILED", "KILLED"]


def work_folder(run: Run) -> Path:
    """Where `run` is trained with its present parameters and data, which have to be prepared, and
    with its published weights, which have to be fetched."""
    receipts = [sha256_file(path) for path in run.input_receipts("train")]
    return run.work(sha256_json([run.parameters_hash("train"), *receipts]))


def read_progress(work: Path) -> Progress | None:
    """None where no training began."""
    times = read_times(work / TIMES)
    if not times:
        return None
    curves, departures = _read(work)
    ended: Literal["FAILED", "KILLED"] = "FAILED" if (work / FAILED).exists() else "KILLED"
    return Progress(
        curves=curves,
        times=times,
        id=sha256_json([work.name, min(times.values()), departures]),
        status="RUNNING" if _is_locked(work / LOCK) else ended,
    )


def logged(work: Path) -> dict[str, Any]:
    """What `runtime.json` keeps of the training in `work`: `logged`, so that its finished curve
    agrees with the one that was shown while it grew, and `waiting_for_images`, the share of an
    iteration's time in which no batch was there yet, in the middle one of the logs."""
    facts: dict[str, Any] = {}
    waiting = _waiting_shares(work)
    if waiting:
        facts["waiting_for_images"] = round(statistics.median(waiting), 4)
    progress = read_progress(work)
    if progress is None:
        return facts
    times = {str(step): time for step, time in progress.times.items()}
    return facts | {"logged": {"id": progress.id, "times": times}}


def _waiting_shares(work: Path) -> list[float]:
    """Of each log the share of an iteration's time that went by before its batch was there."""
    shares = []
    for path in logs(work):
        for values in whole_records(path, work):
            whole, waited = values.get("time"), values.get("data_time")
            # A log of a validation tells times of another loop.
            if isinstance(whole, float) and isinstance(waited, float) and "loss" in values:
                shares.append(min(waited / whole, 1.0) if whole else 0.0)
    return shares


def read_times(path: Path) -> dict[int, int]:
    """Unix time in milliseconds by iteration; none where no training began."""
    with reading(path, "log", f"remove it; {path.parent} stays of use without"):
        marks = (line.split(",") for line in whole_lines(path, path.parent))
        return {int(step): int(time) for step, time in marks}


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


def _read(work: Path) -> tuple[Curves, list[int]]:
    """The curve up to where the last session is, and the sessions that departed from it.

    On a CPU a resumed training logs the same values again. On a GPU it may not, and a store cannot
    forget what it was shown.
    """
    curves: Curves = {}
    earlier: Curves = {}
    departures = []
    last = 0
    for session, step, name, value in read_log(work):
        if session != last:
            earlier, last = curves, session
            curves = {known: dict(values) for known, values in curves.items() if known < step}
        if repr(earlier.get(step, {}).get(name, value)) != repr(value):
            departures.append(session)
        curves.setdefault(step, {})[name] = value
    return curves, sorted(set(departures))


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
