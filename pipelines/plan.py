"""What a study would take, before any of it is done: runs, hours, disk, and what is missing.

Hours come from measured seconds per iteration, `benchmarks/step_times.csv`; what nobody measured is
called so and not guessed (`python benchmarks/step_times.py` measures it). They are those of the
training alone, on one device that takes the whole batch. Disk is bounded by what data cards and
optimizers say. Nothing is written, fetched or trained.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from pipelines.base.frames import read_csv
from pipelines.fetch.missing import missing_data, missing_weights
from pipelines.running.cli import guarded, stage_parser
from pipelines.running.finished import to_make
from pipelines.study import DATA, RESULTS, WORK, Dataset, Run, Study
from pipelines.study.cards import Download, FilesSource, FirstOf, Part
from pipelines.study.places import ROOT
from pipelines.study.recipe import Optimizer

STEP_TIMES = ROOT / "benchmarks" / "step_times.csv"
"""Columns device, model, method, crop (height x width, or whole images of a data set), batch
(images of a step), seconds (per iteration), source."""

_NAMES = ("device", "model", "method", "crop", "source")
_MEASURE = "run python benchmarks/step_times.py"

NOT_MEASURED = "not measured"

_FLOAT = 4  # bytes
_MOMENTS = {"SGD": 1, "Adam": 2, "AdamW": 2}
_CHECKPOINTS = 3  # the two that are kept, while the next is written


@dataclass(frozen=True)
class Group:
    """The runs of one data set, model and method: they differ in their seed alone."""

    runs: Sequence[Run]
    done: int

    @property
    def to_do(self) -> int:
        return len(self.runs) - self.done


_WORKERS: dict[int | str, str] = {"auto": "no (on a GPU: as many as there are cores for)"}


def plan(study: Study) -> str:
    """All that `main` prints, in Markdown."""
    groups = _groups(study)
    times = read_csv(STEP_TIMES, _NAMES, needs=(*_NAMES, "batch", "seconds"), remedy=_MEASURE)
    done, runs = sum(group.done for group in groups), len(study.runs)
    parts = [
        f"# Plan of the study {study.name}",
        f"{runs} runs: {done} done, {runs - done} to do. Threads a run: {study.file.threads}, and "
        f"{_WORKERS.get(study.file.workers, study.file.workers)} processes that load its images.",
        _table(groups, times),
        *_totals(study, groups, times),
        "## Disk\n\n" + _list(_disk(study, groups)),
        "## Missing\n\n" + (_list(missing(study)) or "Nothing has to be downloaded."),
    ]
    return "\n\n".join(parts) + "\n"


def missing(study: Study) -> list[str]:
    """What has to be had before all runs can be made."""
    data = [line for dataset in study.datasets.values() for line in missing_data(dataset)]
    return data + missing_weights(study.weights.values())


def _groups(study: Study) -> list[Group]:
    found: dict[tuple[str, str, str], list[Run]] = {}
    for run in study.runs:
        found.setdefault((run.dataset.name, run.model, run.method), []).append(run)
    to_do = {made.subject.name for made, _ in to_make(study) if isinstance(made.subject, Run)}
    return [Group(runs, sum(run.name not in to_do for run in runs)) for runs in found.values()]


def _seconds(run: Run, times: pd.DataFrame) -> dict[str, float]:
    """Measured seconds per iteration of a run like this one, by device."""
    alike = times[
        (times["model"] == run.model)
        & (times["method"] == run.method)
        & (times["crop"] == crop(run))
        & (times["batch"] == run.training.batch_size)
    ]
    return dict(zip(alike["device"], alike["seconds"], strict=True))


def crop(run: Run) -> str:
    """The column `crop` of a run."""
    size = run.training.augmentation.crop_size
    return f"whole {run.dataset.name}" if size is None else f"{size[0]}x{size[1]}"


def _table(groups: Iterable[Group], times: pd.DataFrame) -> str:
    rows = []
    for group in groups:
        run = group.runs[0]
        seconds = _seconds(run, times)
        hours = {device: run.training.iterations * s / 3600 for device, s in seconds.items()}
        rows.append(
            {
                "data set": run.dataset.name,
                "model": run.model,
                "method": run.method,
                "iterations": f"{run.training.iterations}",
                "crop": crop(run),
                "batch": f"{run.training.batch_size}",
                "done": f"{group.done}",
                "to do": f"{group.to_do}",
                "hours a run": "; ".join(f"{each:.2f} ({device})" for device, each in hours.items())
                or NOT_MEASURED,
            }
        )
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def _totals(study: Study, groups: Iterable[Group], times: pd.DataFrame) -> list[str]:
    """The hours of all runs that are to do, for each device on which any of them was measured."""
    to_do = [group for group in groups if group.to_do]
    lines = []
    for device in dict.fromkeys(times["device"]):
        hours, runs = 0.0, 0
        for group in to_do:
            seconds = _seconds(group.runs[0], times).get(device)
            if seconds is not None:
                hours += group.to_do * group.runs[0].training.iterations * seconds / 3600
                runs += group.to_do
        if runs:
            lines.append(f"{hours:.1f} hours on one {device} for the training of {runs} runs")
    measured = sum(group.to_do for group in to_do if _seconds(group.runs[0], times))
    left = sum(group.to_do for group in to_do) - measured
    if left:
        lines.append(
            f"{NOT_MEASURED}: the training of {left} runs; `python benchmarks/step_times.py "
            f"--study {study.reference}` measures them on the machine where it runs"
        )
    return [_list(lines)] if lines else []


def _disk(study: Study, groups: Sequence[Group]) -> list[str]:
    lines = [line for dataset in study.datasets.values() for line in _disk_of_data(dataset)]
    results = 0
    work: dict[str, int] = {}
    for model, weights in _parameters(study, groups).items():
        for group in groups:
            run = group.runs[0]
            if run.model == model and group.to_do:
                results += group.to_do * weights * _FLOAT
                states = 1 + _moments(run.training.optimizer)
                work[model] = max(work.get(model, 0), _CHECKPOINTS * states * weights * _FLOAT)
    if results:
        lines.append(f"{RESULTS}/: {_size(results)} for the weights of all runs to do")
        largest = max(work, key=lambda model: work[model])
        lines.append(
            f"{WORK}/: up to {_size(work[largest])} for the checkpoints of each run while it "
            f"trains ({largest})"
        )
    free = {place: shutil.disk_usage(_existing(place)).free for place in (DATA, RESULTS, WORK)}
    lines.append("free: " + ", ".join(f"{_size(room)} at {p}/" for p, room in free.items()))
    return lines


def _disk_of_data(dataset: Dataset) -> list[str]:
    if dataset.receipt.is_file() or not isinstance(dataset.card.source, FilesSource):
        return []
    downloaded, unpacked = 0, 0
    for part in dataset.card.source.parts.values():
        sizes = [_sizes(each) for each in _alternatives(part)]
        downloaded += max(size[0] for size in sizes)
        unpacked += max(size[1] for size in sizes)
    known = _size(downloaded) if downloaded else "an unknown amount"
    return [
        f"{DATA}/ for {dataset.name}: {known} of downloads; up to {_size(unpacked)} unpacked, and "
        "up to as much again prepared"
    ]


def _alternatives(part: Part | FirstOf) -> list[Part]:
    return list(part.parts.values()) if isinstance(part, FirstOf) else [part]


def _sizes(part: Part) -> tuple[int, int]:
    """Bytes of a part's downloads as far as the card says, and the bound of what they hold."""
    files: list = [part] if isinstance(part, Download) else getattr(part, "downloads", [])
    unpacked = sum((file.unpacked_bytes or file.bytes or 0) for file in files)
    known = sum(file.bytes or 0 for file in files) or (getattr(part, "bytes", None) or 0)
    return known, unpacked or known


def _moments(optimizer: Optimizer) -> int:
    if optimizer.type == "SGD" and not optimizer.momentum:
        return 0
    return _MOMENTS[optimizer.type]


def _parameters(study: Study, groups: Sequence[Group]) -> dict[str, int]:
    """The number of weights of each model that has runs to do, with the classes of one data set."""
    runs = {group.runs[0].model: group.runs[0] for group in groups if group.to_do}
    if not runs:
        return {}
    from mmengine.registry import MODELS, init_default_scope

    from pipelines.configs.model import baseline_model
    from sar.packaged import register_mmseg

    register_mmseg()
    init_default_scope("mmseg")
    return {
        model: sum(value.numel() for value in MODELS.build(baseline_model(run)).parameters())
        for model, run in runs.items()
    }


def _existing(place: Path) -> Path:
    place = place.absolute()
    return next(each for each in (place, *place.parents) if each.exists())


def _size(count: int) -> str:
    return tqdm.format_sizeof(count, "B", 1000)


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def main(argv: list[str] | None = None) -> int:
    args = stage_parser("plan", __doc__, verify=True).parse_args(argv)
    return guarded(lambda: print(plan(Study.load(args.study)), end=""))


if __name__ == "__main__":
    sys.exit(main())
