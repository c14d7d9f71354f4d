"""Files that stages write: atomically, with a receipt of what is reproducible about them.

A stage writes its outputs into a temporary sibling folder and moves them into place only when all
of them are whole; the receipt goes last. `receipt.json` holds reproducible facts only and is
identical on every replay; `runtime.json` holds time, memory, device, versions and commit.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from pipelines.base.errors import PipelineError
from pipelines.base.measuring import Meter

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


def read_json(path: Path) -> Any:
    """Raises PipelineError when the file is missing or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(f"{path}: not found; run the stage that writes it first") from None
    except json.JSONDecodeError as error:
        raise PipelineError(f"{path}: not valid JSON ({error})") from None


def write_whole(path: Path, text: str) -> None:
    """Put `text` in the place of what is at `path`; a kill leaves the old text or the new one."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A scratch folder beside `folder`, whose files move into `folder` when the block succeeds.

    Each file arrives by rename, `receipt.json` last, so that a receipt vouches for its neighbours.
    After an error, or a kill, `folder` holds no half-written file.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    scratch.chmod(0o755)
    try:
        yield scratch
        folder.mkdir(exist_ok=True)
        (folder / "receipt.json").unlink(missing_ok=True)
        for path in sorted(scratch.iterdir(), key=lambda p: (p.name == "receipt.json", p.name)):
            target = folder / path.name
            if target.is_dir():
                shutil.rmtree(target)
            path.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_receipt(
    scratch: Path,
    *,
    stage: str,
    subject: str,
    parameters: str,
    inputs: Iterable[Path],
    digests: dict[str, str] | None = None,
    views: Collection[str] = (),
) -> None:
    """Write `scratch/receipt.json` over the inputs and the files directly in `scratch`.

    `digests` speaks for the files in sub-folders: where they are images, for their decoded content,
    since their bytes depend on the compressor.

    Args:
        subject: what the stage worked on: a run's, a data set's or a study's name.
        parameters: sha256 of the parameters that determine the outputs.
        inputs: declared inputs, recorded under the path they were given by.
        views: names of outputs that show run-time facts. Like `runtime.json` they differ between
            replays, so the receipt leaves them out.
    """
    outputs = {
        path.name: sha256_file(path)
        for path in sorted(scratch.iterdir())
        if path.is_file() and path.name not in ("receipt.json", "runtime.json", *views)
    }
    receipt = {
        "stage": stage,
        "subject": subject,
        "parameters": parameters,
        "inputs": {path.as_posix(): sha256_file(path) for path in sorted(inputs)},
        "outputs": outputs,
        **({"digests": digests} if digests else {}),
    }
    (scratch / "receipt.json").write_text(canonical_json(receipt), encoding="utf-8")


class Stopwatch:
    """Measures one stage from its construction on; `write` leaves `runtime.json`."""

    def __init__(self) -> None:
        self._meter = Meter()

    def write(self, scratch: Path, **more: Any) -> None:
        text = canonical_json(self._meter.facts() | more)
        (scratch / "runtime.json").write_text(text, encoding="utf-8")
