"""How every stage leaves its results: measured, whole or not at all, and with a receipt."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipelines.base.artifacts import Stopwatch, staged, write_receipt


class Subject(Protocol):
    """What a stage works on: a run, a data set, published weights or a study."""

    @property
    def name(self) -> str: ...

    def folder(self, stage: str) -> Path: ...

    def parameters_hash(self, stage: str) -> str: ...


@dataclass
class Outputs:
    """What a stage writes into `folder`, and what is known of it at the end only."""

    folder: Path
    """Scratch, which takes the place of the stage's folder when all is written."""
    digests: dict[str, str] = field(default_factory=dict)
    """Of sub-folders, for the receipt; see `write_receipt`."""
    runtime: dict[str, Any] = field(default_factory=dict)
    """Facts of this run of the stage for `runtime.json`, besides what is measured."""


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

    Then `receipt.json` and `runtime.json` are written beside them; after an error nothing is.

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
            views=views,
        )
        watch.write(scratch, **outputs.runtime)
