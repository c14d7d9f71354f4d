"""Files that stages write: atomically, with a receipt of what is reproducible about them.

A stage writes its outputs into a temporary sibling folder and moves them into place only when all
of them are whole, and on the disk; the receipt goes last. `receipt.json` holds reproducible facts
only and is identical on every replay; `runtime.json` holds time, memory, device, versions and
commit.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import shutil
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from pipelines.base import locks
from pipelines.base.durable import sync, sync_tree, written_whole
from pipelines.base.errors import disk_errors
from pipelines.base.measuring import Meter
from pipelines.base.reading import read_json as read_json  # It reads what is written here.

RECEIPT = "receipt.json"

TIMESTAMP = ".snakemake_timestamp"
"""What Snakemake leaves in a folder that it was promised: no part of any result."""


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_folder(folder: Path) -> str:
    """sha256 over the names and contents of all files below `folder`, in order of their names."""
    everything = folder.rglob("*")
    files = sorted(path for path in everything if path.is_file() and path.name != TIMESTAMP)
    listing = [(path.relative_to(folder).as_posix(), sha256_file(path)) for path in files]
    return sha256_json(listing)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and a final newline: equal values give equal bytes."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def sha256_json(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def write_whole(path: Path, text: str) -> None:
    """Put `text` in the place of what is at `path`; a crash leaves the old text or the new one."""
    with written_whole(path) as new:
        new.write_text(text, encoding="utf-8", newline="\n")


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A scratch folder beside `folder`, whose files move into `folder` when the block succeeds.

    Each file arrives by rename, `receipt.json` last, so that a receipt vouches for its neighbours.
    After an error, a kill or a crash, `folder` holds no half-written file, and no receipt where its
    files are not all of one making; what a kill leaves beside it, the next one to write removes.

    Raises:
        PipelineError: when another process writes into `folder`, or the disk refuses.
    """
    with disk_errors(folder), locks.alone(folder):
        scratch = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
        scratch.mkdir()
        try:
            yield scratch
            sync_tree(scratch)
            sync(folder.parent)
            _move(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _move(scratch: Path, folder: Path) -> None:
    """Move what is in `scratch`, and on the disk, into `folder`."""
    folder.mkdir(exist_ok=True)
    # From here on until the new receipt is there, nothing vouches for what is in the folder.
    (folder / RECEIPT).unlink(missing_ok=True)
    sync(folder)
    new = sorted(path for path in scratch.iterdir() if path.name != RECEIPT)
    replaced = scratch / ".replaced"
    replaced.mkdir()
    for path in new:
        target = folder / path.name
        if target.is_dir():
            target.replace(replaced / path.name)
        path.replace(target)
    sync(folder)
    if (scratch / RECEIPT).exists():
        (scratch / RECEIPT).replace(folder / RECEIPT)
        sync(folder)
    sync(folder.parent)


def write_receipt(
    scratch: Path,
    *,
    stage: str,
    subject: str,
    parameters: str,
    inputs: Iterable[Path],
    digests: dict[str, str] | None = None,
    chosen: dict[str, Any] | None = None,
    views: Collection[str] = (),
) -> None:
    """Write `scratch/receipt.json` over the inputs and the files directly in `scratch`.

    `digests` speaks for the files in sub-folders: where they are images, for their decoded content,
    since their bytes depend on the compressor.

    Args:
        subject: what the stage worked on: a run's, a data set's or a study's name.
        parameters: sha256 of the parameters that determine the outputs.
        chosen: what the parameters leave to the machine, as it was.
        inputs: declared inputs, recorded under the path they were given by.
        views: names of outputs that show run-time facts. Like `runtime.json` they differ between
            replays, so the receipt leaves them out.
    """
    outputs = {
        path.name: sha256_file(path)
        for path in sorted(scratch.iterdir())
        if path.is_file() and path.name not in (RECEIPT, "runtime.json", *views)
    }
    receipt = {
        "stage": stage,
        "subject": subject,
        "parameters": parameters,
        "inputs": {path.as_posix(): sha256_file(path) for path in sorted(inputs)},
        "outputs": outputs,
        **({"digests": digests} if digests else {}),
        **({"chosen": chosen} if chosen else {}),
    }
    (scratch / RECEIPT).write_text(canonical_json(receipt), encoding="utf-8")


class Stopwatch:
    """Measures one stage from its construction on; `write` leaves `runtime.json`."""

    def __init__(self) -> None:
        self._meter = Meter()

    def write(self, scratch: Path, **more: Any) -> None:
        text = canonical_json(self._meter.facts() | more)
        (scratch / "runtime.json").write_text(text, encoding="utf-8")
