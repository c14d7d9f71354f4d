"""Whole trainings, several at once: how many iterations a second by workers and by runs on a GPU.

Each is the command `python -m pipelines.train` on drawn scenes of about CamVid's full size, in a
process of its own that shares nothing but a GPU with the others, as under Snakemake. All begin
together; what counts is the time in which all of them train. The processes are forked from one that
has imported everything, so that the table takes minutes; imports are not what it is about.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# What a training imports, for the process that is forked.
import pipelines.train.__main__
from benchmarks.on_gpu.bench import Bench
from pipelines.base.artifacts import read_json
from pipelines.fetch.stage import fetch
from pipelines.prepare.stage import prepare
from pipelines.study import Run, Study
from pipelines.study.places import ROOT
from pipelines.track.push import EVERY

GOAL = 24 * 1500 / 600
"""Iterations a second: 24 runs of 1,500 iterations in ten minutes, on a GPU with 16 cores."""
WAITING_LIMIT = 0.1
"""Of an iteration, in which no batch is there."""


class NotMeasured(Exception):
    """Why a phase has no row; the others have theirs."""


@dataclass(frozen=True)
class Phase:
    """Trainings that run at once, each with so many workers, with or without images in memory."""

    runs: int
    workers: int | str
    cached: bool
    iterations: int

    @property
    def name(self) -> str:
        runs = f"{self.runs} run{'s' if self.runs > 1 else ''}"
        return f"{runs}, workers {self.workers}, {'cache' if self.cached else 'no cache'}"


PHASES = [
    Phase(1, 0, False, 60),
    Phase(1, "auto", True, 200),
    Phase(4, "auto", True, 100),
    Phase(8, "auto", True, 80),
    Phase(2, "auto", True, 140),
    Phase(1, 4, False, 120),
    Phase(1, 0, True, 120),
]
"""The telling ones first: the last may be left out for want of time."""
SECONDS = 15.0
"""That a phase takes at least: a process starts CUDA and builds a model in about five."""

CASE = ("fcn_hrnet_small", 8, [320, 416], 448, 64, 10)
"""Model entry, batch, crop, side of the scenes, how many of them, and iterations between logs."""

TINY_PHASES = [Phase(1, 0, False, 6), Phase(1, 1, True, 6), Phase(2, "auto", True, 8)]
TINY = ("fcn_hrnet_tiny", 2, [32, 32], 48, 6, 1)


def time_trainings(bench: Bench, case: tuple, phases: list[Phase], folder: Path) -> None:
    """Iterations a second of each phase, all its runs together; `folder` is for scratch."""
    model, batch, crop, side, *_ = case
    called = f"{model} {batch}x{crop[0]}x{crop[1]}, scenes of {side}x{side}"
    seconds = SECONDS if bench.device != "cpu" else 0.0
    if not bench.left(f"training {called}", seconds):
        return
    before = Path.cwd()
    write_params(folder, case, phases)
    os.chdir(folder)
    try:
        [dataset] = Study.load("bench").datasets.values()
        fetch(dataset)
        prepare(dataset)
        context = _imported()
        rates = {}
        for number, phase in enumerate(phases):
            what = f"training {called} {phase.name}"
            if not bench.left(what, seconds):
                continue
            runs = _runs(number, phase)
            try:
                _train(context, number, runs, 120.0 if seconds else 900.0)
                rates[phase.name] = _add(bench, called, phase, runs)
            except NotMeasured as error:
                bench.leave_out(what, str(error))
    finally:
        os.chdir(before)
    if rates:
        best = max(rates, key=lambda name: rates[name])
        ratio, of = round(GOAL / rates[best], 3), "10 minutes"
        more = {"ratio": ratio, "of": of, "limit": 1.0}
        said = "24 runs of 1,500 iterations"
        bench.add("training", called, f"the fastest: {best}", said, 10 * ratio, "minutes", **more)


def _add(bench: Bench, case: str, phase: Phase, runs: list[Run]) -> float:
    """The rows of a phase, and its iterations a second."""
    facts = [read_json(run.output("train", "runtime.json")) for run in runs]
    times = [{int(i): ms for i, ms in fact["logged"]["times"].items()} for fact in facts]
    rate = iterations_per_second(times)
    peaks = [fact["peak_gpu_memory_mib"] for fact in facts]
    more = {"peak_mib": None if None in peaks else sum(peaks)}
    bench.add("training", case, phase.name, "SAR", rate, "iterations/s", **more)
    waiting = statistics.median(fact["waiting_for_images"] for fact in facts)
    limit = WAITING_LIMIT if phase.workers == "auto" and phase.cached else None
    more = {"ratio": round(waiting, 3), "of": "an iteration", "limit": limit}
    said = "waiting for images"
    bench.add("training", case, phase.name, said, 100 * waiting, "% of an iteration", **more)
    return rate


def iterations_per_second(times: list[dict[int, int]]) -> float:
    """Of all runs together, in the time in which each of them trains.

    The first two logs of a run, which warm it up, and its last, with which it writes a checkpoint,
    are left out.

    Args:
        times: of each run, Unix time in milliseconds by iteration.

    Raises:
        NotMeasured: when there is no such time.
    """
    logs = [sorted(each.items(), key=lambda log: log[0])[2:-1] for each in times]
    if any(len(each) < 2 for each in logs):
        raise NotMeasured(f"got {[len(each) for each in times]} logs a run, expected at least 5")
    start, end = max(each[0][1] for each in logs), min(each[-1][1] for each in logs)
    if end <= start:
        raise NotMeasured("one run ended before another began; expected more iterations")
    done = 0.0
    for each in logs:
        iterations, moments = np.array(each, dtype=float).T
        done += float(np.diff(np.interp([start, end], moments, iterations))[0])
    return 1e3 * done / (end - start)


def write_params(folder: Path, case: tuple, phases: list[Phase]) -> None:
    """The files below `params/` of a study `bench` with a variant a phase, in `folder`."""
    model, batch, crop, side, scenes, log_interval = case
    for kind in ("models", "datasets", "studies"):
        (folder / "params" / kind).mkdir(parents=True)
    shutil.copy(ROOT / f"params/models/{model}.yaml", folder / "params/models")
    drawn = {
        "size": side,
        "digits_per_scene": [6, 12],
        "digit_size": [max(side // 10, 8), side // 4],
        "imbalance": 2.0,
        "scenes": {"train": scenes, "val": 1, "test": 1},
    }
    card = {
        "title": "Scenes to train on",
        "classes": ["background", *"0123456789"],
        "palette": [[20 * index, 0, 0] for index in range(11)],
        "source": {"kind": "digits", "scenes": drawn},
        "licence": "CC BY 4.0",
        "citation": "none",
    }
    study = {
        "title": "Trainings at once",
        "description": "How fast they are, whatever they learn.",
        "kind": "fixed-budget",
        "datasets": ["scenes"],
        "models": [model],
        "baseline": "baseline",
        "methods": {
            "baseline": {"label": "Baseline"},
            "sar": {"label": "SAR", "plugin": "sar.mmseg:apply_sar"},
        },
        "seeds": list(range(max(phase.runs for phase in phases))),
        "threads": 1,
        "from_scratch": True,
        "training": {
            "iterations": 1,
            "batch_size": batch,
            "optimizer": {"type": "SGD", "lr": 0.01, "momentum": 0.9},
            "augmentation": {"scale_range": [0.75, 1.5], "crop_size": crop, "flip": 0.5},
            "checkpoint_interval": 10**6,
            "log_interval": log_interval,
        },
        "evaluation": {"batch_size": 1},
        "variants": {
            f"phase{number}": {
                "runs_per_gpu": phase.runs,
                "workers": phase.workers,
                "image_cache": 1024 if phase.cached else 0,
                "training": {"iterations": phase.iterations},
            }
            for number, phase in enumerate(phases)
        },
    }
    for kind, name, content in (("datasets", "scenes", card), ("studies", "bench", study)):
        (folder / f"params/{kind}/{name}.yaml").write_text(json.dumps(content))


def _runs(number: int, phase: Phase) -> list[Run]:
    study = Study.load(f"bench@phase{number}")
    return [run for run in study.runs if run.method == "sar"][: phase.runs]


def _imported() -> multiprocessing.context.BaseContext:
    """Makes processes that are forked from one that has imported this module, and used no GPU.

    mmengine and mmcv ask for a GPU when they are imported. By CUDA itself that would spoil it for
    every process forked later; by NVML it does not.
    """
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(path)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _train(
    context: multiprocessing.context.BaseContext, number: int, runs: list[Run], patience: float
) -> None:
    """Train these runs at once, in so many seconds; NotMeasured where one fails."""
    logs = [Path(f"phase{number}_{run.seed}.log") for run in runs]
    # As if the study had just been sent: nothing is, to MLflow, before `EVERY` seconds are over.
    runs[0].study.work.mkdir(parents=True, exist_ok=True)
    (runs[0].study.work / "pushed").touch()
    processes = [
        context.Process(target=_train_one, args=(Path.cwd(), f"bench@phase{number}", run.name, log))
        for run, log in zip(runs, logs, strict=True)
    ]
    for process in processes:
        process.start()
    end = time.monotonic() + patience
    for process in processes:
        process.join(max(end - time.monotonic(), 0.0))
    late = [process for process in processes if process.is_alive()]
    for process in late:
        process.terminate()
        process.join()
    if late:
        raise NotMeasured(f"{len(late)} of {len(runs)} were not done after {patience:.0f} s")
    for process, log in zip(processes, logs, strict=True):
        if process.exitcode:
            said = log.read_text(errors="replace").strip() if log.is_file() else ""
            raise NotMeasured(f"a training failed ({process.exitcode}): {said[-500:]}")


def _train_one(folder: Path, study: str, run: str, log: Path) -> None:
    os.chdir(folder)
    os.environ[EVERY] = "1e9"
    with log.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.exit(pipelines.train.__main__.main(["--study", study, "--run", run]))
