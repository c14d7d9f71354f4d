"""What one run of the tracking store should hold, whatever it is a view of.

Nothing here knows MLflow. A view is a pure function of the files that the stages wrote, so that the
same files always ask for the same parameters, points and artifacts.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pipelines.base.artifacts import sha256_file, sha256_json
from pipelines.base.errors import PipelineError
from pipelines.base.reading import read_json
from pipelines.base.receipts import read_receipt
from pipelines.running.custody import Made
from pipelines.study import Run, Study

RUN_KEY = "sar.run"
"""Tag of the view of one run; its value is the run's name."""

STUDY_KEY = "sar.comparison"
"""Tag of the view of a whole study; its value is the study's name."""

LAYOUT = 2
"""To be raised when the names or times of points change, so that runs shown before are replaced."""

_SMALL = (".json", ".csv")


@dataclass(frozen=True)
class Point:
    """One value of a metric, so many seconds after the start of its run.

    Points of a curve have steps from 1 on; step 0 is for what is measured once.
    """

    key: str
    value: float
    step: int
    seconds: float


@dataclass(frozen=True)
class DataInput:
    """One split of a data set that a run read."""

    name: str
    digest: str
    context: Literal["train", "test"]
    folder: str
    images: int


@dataclass(frozen=True)
class View:
    """What one run of the tracking store should hold."""

    key: tuple[str, str]
    """Tag and value by which the store finds it again."""
    title: str
    parts: dict[str, str]
    """Fingerprint of each stage it shows. A store cannot forget a point or change a parameter, so a
    run that shows another fingerprint of a part is replaced; a part that is new is added."""
    params: dict[str, str]
    points: list[Point]
    tags: dict[str, str]
    inputs: list[DataInput]
    files: list[tuple[str, str]]
    """Local path and the artifact folder it belongs in."""
    texts: dict[str, str]
    """Contents of further artifacts, by their path."""
    started: str | None
    ended: str | None
    """ISO times."""
    status: Literal["RUNNING", "KILLED", "FAILED", "SCHEDULED", "FINISHED"]
    """RUNNING while a process trains, SCHEDULED while no process works and a stage is to come."""
    score: float | None = None
    """mIoU on the evaluation split, in percent."""

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of all of it; the bytes of the files enter through the receipts in `parts`."""
        return sha256_json(asdict(self))

    @property
    def grows(self) -> bool:
        """Whether its curves may go on from where they are."""
        return self.status in ("RUNNING", "KILLED", "FAILED")


@dataclass(frozen=True)
class Stage:
    """A stage's finished outputs: its folder, receipt and runtime."""

    folder: Path
    receipt: dict[str, Any]
    runtime: dict[str, Any]

    @cached_property
    def fingerprint(self) -> str:
        # The runtime counts: running a stage again gives the same receipt, but is another event.
        return sha256_json([LAYOUT, self.receipt, self.runtime])

    @property
    def started(self) -> str | None:
        return self.runtime.get("started")

    @property
    def ended(self) -> str | None:
        if self.started is None:
            return None
        span = timedelta(seconds=self.runtime.get("wall_seconds", 0))
        return (datetime.fromisoformat(self.started) + span).isoformat()

    def files(self, names: tuple[str, ...], artifacts: str) -> list[tuple[str, str]]:
        names = (*names, "receipt.json", "runtime.json")
        found = [self.folder / name for name in names if (self.folder / name).is_file()]
        return [(path.as_posix(), artifacts) for path in found]


def finished(subject: Run | Study, stage: str) -> Stage | None:
    """The outputs of `stage`, or None where they are missing or made from something else.

    Raises:
        PipelineError: when the receipt is there and cannot be read, or numbers are not as it says.
    """
    folder = subject.folder(stage)
    try:
        receipt = read_receipt(folder / "receipt.json")
    except PipelineError:
        if (folder / "receipt.json").is_file():
            raise
        return None
    if receipt.parameters != subject.parameters_hash(stage):
        return None
    # Inputs that are gone say nothing: results may be kept without the data. Large inputs are
    # vouched for by the receipts among the small ones.
    for name, digest in receipt.inputs.items():
        path = Path(name)
        if path.suffix in _SMALL and path.is_file() and sha256_file(path) != digest:
            return None
    small = (folder / name for name in receipt.outputs if Path(name).suffix in _SMALL)
    for fault in Made(stage, subject).byte_faults(path for path in small if path.is_file()):
        raise PipelineError(fault)
    runtime = folder / "runtime.json"
    return Stage(
        folder,
        receipt.model_dump(exclude_unset=True),
        read_json(runtime, dict[str, Any]) if runtime.is_file() else {},
    )


def key(name: str) -> str:
    """`name` in the characters that MLflow allows in keys."""
    return re.sub(r"[^\w\-./ ]", "_", name)
