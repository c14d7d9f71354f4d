"""How many runs of a study share a GPU at once."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.base.reading import read_json
from pipelines.running import devices
from pipelines.study import Run
from pipelines.study.schema import StudyFile

MOST = 8
"""Runs that share a GPU where a study leaves it open: its arithmetic is one after the other."""
_CONTEXT = 600
"""MiB that CUDA takes for a process, besides what PyTorch reserves and counts."""
_SHARE = 0.9
"""Of a device's memory that runs may have together."""


def most_runs_per_gpu(file: StudyFile) -> int:
    """How many runs a driver may start for a GPU; those for which there is no room yet wait."""
    return MOST if file.runs_per_gpu == "auto" else file.runs_per_gpu


def runs_per_gpu(runs: Sequence[Run]) -> int:
    """What the study of these runs says; for `auto` as many as fit, of those that take the most.

    What one takes is known from the finished trainings of the study on the same data set and model:
    the most that PyTorch reserved on the GPU, as `runtime.json` says. Where there is none, of one
    of `runs`, it is 1, as on a machine that does not tell the memory of its GPUs.
    """
    asked = runs[0].study.file.runs_per_gpu
    if asked != "auto":
        return asked
    peaks = [_peak(run) for run in runs]
    size = devices.memory()
    if size is None or None in peaks:
        return 1
    largest = max(peak for peak in peaks if peak is not None)
    return min(max(int(_SHARE * size // (largest + _CONTEXT)), 1), MOST)


def _peak(run: Run) -> float | None:
    """MiB that the finished trainings like `run` took on a GPU at most; None where none is known.

    `like`: of the same data set and model. What a method adds to a model is small beside it.
    """
    peaks = []
    for other in run.study.runs:
        file = other.output("train", "runtime.json")
        if (other.dataset.name, other.model) == (run.dataset.name, run.model) and file.is_file():
            peak = read_json(file, dict).get("peak_gpu_memory_mib")
            if isinstance(peak, int | float):
                peaks.append(peak)
    return max(peaks, default=None)
