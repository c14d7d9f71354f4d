"""How every stage leaves its results: measured, whole or not at all, and with a receipt."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from pipelines.base import locks
from pipelines.base.artifacts import Stopwatch, staged, write_receipt
from pipelines.base.errors import disk_errors
from pipelines.running.custody import remember
from pipelines.running.processes import rank

_S = TypeVar("_S", bound="Subject")
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Subject(Protocol):
    """What a stage works on: a run, a data set, published weights or a study."""

    @property
    def name(self) -> str: ...

    def folder(self, stage: str) -> Path: ...

    def parameters(self, stage: str, *, defaults: bool = True) -> dict[str, Any]: ...

    def parameters_hash(self, stage: str) -> str: ...


@dataclass
class Outputs:
    """What a stage writes into `folder`, and what is known of it at the end only."""

    folder: Path
    """Scratch, which takes the place of the stage's folder when all is written."""
    digests: dict[str, str] = field(default_factory=dict)
    """Of sub-folders, for the receipt; see `write_receipt`."""
    chosen: dict[str, Any] = field(default_factory=dict)
    """What the parameters left to the machine, for the receipt."""
    runtime: dict[str, Any] = field(default_factory=dict)
    """Facts of this run of the stage for `runtime.json`, besides what is measured."""


def only_writer(
    stage: str,
) -> Callable[[Callable[Concatenate[_S, _P], _T]], Callable[Concatenate[_S, _P], _T]]:
    """For the function of a stage: from its start on, no other process does `stage` of its subject.

    Of the processes of one run, the first stands for all. See `locks.alone`.
    """

    def around(work: Callable[Concatenate[_S, _P], _T]) -> Callable[Concatenate[_S, _P], _T]:
        @functools.wraps(work)
        def alone(subject: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
            if rank() > 0:
                return work(subject, *args, **kwargs)
            folder = subject.folder(stage)
            with disk_errors(folder), locks.alone(folder):
                return work(subject, *args, **kwargs)

        return alone

    return around


@contextlib.contextmanager
def writing(
    stage: str,
    subject: Subject,
    inputs: Iterable[Path],
    *,
    name: str | None = None,
    views: Collection[str] = (),
    watch: Stopwatch | None = None,
) -> Iterator[Outputs]:
    """A scratch folder whose files become the outputs of `stage` when the block succeeds.

    Then `receipt.json` and `runtime.json` are written beside them; after an error nothing is. The
    receipt has a hash of the parameters, `runtime.json` the parameters themselves, so that an error
    can say what has changed.

    Args:
        inputs: declared inputs, which the receipt records when the block is done.
        name: what the receipt calls the subject, where that is not the subject's own name.
        views: see `write_receipt`.
        watch: where the stage began before the block; without it, the block is what is measured.
    """
    watch = watch or Stopwatch()
    with staged(subject.folder(stage)) as scratch:
        outputs = Outputs(scratch)
        yield outputs
        write_receipt(
            scratch,
            stage=stage,
            subject=name or subject.name,
            parameters=subject.parameters_hash(stage),
            inputs=inputs,
            digests=outputs.digests,
            chosen=outputs.chosen,
            views=views,
        )
        parameters = subject.parameters(stage, defaults=False)
        watch.write(scratch, parameters=parameters, **outputs.runtime)
    remember(stage, subject.folder(stage))
