"""The values that a training logs, read from its work folder, over all its interruptions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

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
    for session, path in enumerate(sorted(work.glob("*/vis_data/scalars.json"))):
        for line in whole_lines(path):
            values = json.loads(line)
            for name, value in values.items():
                if name not in _NOT_REPRODUCIBLE:
                    yield session, int(values["step"]), name, value


def whole_lines(path: Path) -> Iterator[str]:
    """Lines of a file that another process may be writing, or was killed in writing.

    None where the file does not exist.
    """
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            yield line
