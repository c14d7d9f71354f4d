"""The values that a training logs, read from its work folder, over all its interruptions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.base.reading import broken, read_text, reading

_NOT_REPRODUCIBLE = {"time", "data_time", "memory", "eta", "epoch", "iter", "step"}

Curves = dict[int, dict[str, float]]
"""Logged values by iteration and name."""


def read_curves(work: Path) -> Curves:
    """Logged values by iteration; later lines count.

    Values that depend on the machine (time, memory) are left out.
    """
    curves: Curves = {}
    for _, step, name, value in read_log(work):
        curves.setdefault(step, {})[name] = value
    return curves


def read_log(work: Path) -> Iterator[tuple[int, int, str, float]]:
    """Logged values as (session, iteration, name, value), in the order in which they were logged.

    A training begins another session whenever it is resumed, and logs again what it logged after
    its last checkpoint.
    """
    for session, path in enumerate(logs(work)):
        for values in whole_records(path, work):
            step = values.get("step")
            for name, value in values.items():
                if name not in _NOT_REPRODUCIBLE:
                    if not isinstance(step, int) or not isinstance(value, int | float):
                        raise broken(path, f"{name}: expected a number", from_the_start(work))
                    yield session, step, name, value


def logs(work: Path) -> list[Path]:
    """The file of each session of a training, in their order."""
    return sorted(work.glob("*/vis_data/scalars.json"))


def whole_records(path: Path, work: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file in the work folder `work`, one a line, as `whole_lines`.

    Raises:
        PipelineError: for a line that is none, as a crash of the machine may leave it.
    """
    for line in whole_lines(path, work):
        with reading(path, "log", from_the_start(work)):
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError(f"expected an object, got {line[:50]}")
        yield record


def whole_lines(path: Path, work: Path) -> Iterator[str]:
    """Lines of a file that another process may be writing, or was killed in writing.

    None where the file does not exist.
    """
    if not path.is_file():
        return
    for line in read_text(path, from_the_start(work)).splitlines(keepends=True):
        if line.endswith("\n"):
            yield line


def from_the_start(work: Path) -> str:
    """What to do about a broken log in the work folder of a training."""
    return f"remove the folder {work} and train again, from the start"
