"""What stages left in JSON of a data set and of a run, read and checked by all who ask for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from pipelines.base.reading import broken, read_json
from pipelines.study.data import Dataset
from pipelines.study.study import Run

_Percent = Annotated[float, Field(ge=0, le=100)] | None
_Share = Annotated[float, Field(ge=0, le=1)]
_Count = Annotated[int, Field(ge=0)]


class Info(TypedDict):
    """`info.json`, as prepare writes it; keys that an earlier version did not write may lack."""

    classes: list[str]
    palette: list[list[int]]
    ignore_index: int
    pixel_share: dict[str, _Share]
    groups: dict[str, list[str]]
    counts: dict[str, _Count]
    digests: NotRequired[dict[str, str]]
    image_count: NotRequired[dict[str, _Count]]
    labelled_pixels: NotRequired[_Count]
    suffixes: NotRequired[dict[str, dict[str, _Count]]]
    unequal_sizes: NotRequired[list[str]]
    skipped: NotRequired[dict[str, Any]]


class _Group(TypedDict):
    classes: list[str]
    mIoU: _Percent


class Scores(TypedDict):
    """What `base.metrics.scores` gives, in percent; null for what the split cannot measure."""

    mIoU: _Percent
    mAcc: _Percent
    aAcc: _Percent
    IoU: dict[str, _Percent]
    Acc: dict[str, _Percent]
    groups: dict[str, _Group]


class Metrics(Scores):
    """`metrics.json`, as evaluate writes it."""

    dataset: str
    split: str
    num_images: _Count
    subsets: NotRequired[dict[str, Scores]]


def info(dataset: Dataset) -> dict[str, Any]:
    """What prepare says of `dataset`: `Info`.

    Raises:
        PipelineError: when the file is missing, damaged or of other classes than the data card.
    """
    path, again = dataset.info, dataset.again("prepare")
    value: dict[str, Any] = read_json(path, Info, again)
    _check_classes(path, "pixel_share", value["pixel_share"], dataset.card.classes, again)
    return value


def metrics(run: Run) -> dict[str, Any]:
    """The scores of `run`: `Metrics`.

    Raises:
        PipelineError: as `info`, of the run's evaluation.
    """
    path, again = run.output("evaluate", "metrics.json"), run.again("evaluate")
    value: dict[str, Any] = read_json(path, Metrics, again)
    for key in ("IoU", "Acc"):
        _check_classes(path, key, value[key], run.dataset.card.classes, again)
    return value


def runtime(run: Run, stage: str) -> dict[str, Any]:
    """The run-time facts of a stage of `run`.

    Raises:
        PipelineError: when the file is missing or damaged.
    """
    value: dict[str, Any] = read_json(
        run.output(stage, "runtime.json"), dict[str, Any], run.again(stage)
    )
    return value


def _check_classes(
    path: Path, key: str, found: Iterable[str], expected: Sequence[str], again: str
) -> None:
    other = sorted(set(found) ^ set(expected))
    if other:
        which = "lacks" if other[0] in expected else "has"
        raise broken(path, f"{key}: {which} {other[0]!r}, unlike the data card's classes", again)
