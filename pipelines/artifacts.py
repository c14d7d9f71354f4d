"""Files that stages write: atomically, with a receipt of what is reproducible about them.

A stage writes its outputs into a temporary sibling folder and moves them into place only when all
of them are whole; the receipt goes last. `receipt.json` holds reproducible facts only and is
identical on every replay; `runtime.json` holds time, memory, device, versions and commit.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pipelines.errors import PipelineError

_UNTOLD = ("receipt.json", "runtime.json", "index.html")
"""Files of which no receipt speaks: they differ from replay to replay, or show what does."""

_PACKAGES = ("torch", "onedl-mmsegmentation", "onedl-mmcv", "onedl-mmengine", "numpy", "snakemake")


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_folder(folder: Path) -> str:
    """sha256 over the names and contents of all files below `folder`, in order of their names."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
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
) -> None:
    """Write `scratch/receipt.json` over the inputs and the files directly in `scratch`.

    `digests` speaks for the files in sub-folders: where they are images, for their decoded content,
    since their bytes depend on the compressor.

    Args:
        subject: what the stage worked on: a run's, a data set's or a study's name.
        parameters: sha256 of the parameters that determine the outputs.
        inputs: declared inputs, recorded under the path they were given by.
    """
    outputs = {
        path.name: sha256_file(path)
        for path in sorted(scratch.iterdir())
        if path.is_file() and path.name not in _UNTOLD
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
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self._started = datetime.now(UTC).isoformat(timespec="seconds")

    def write(self, scratch: Path, **more: Any) -> None:
        commit, dirty = git_commit()
        runtime = {
            "started": self._started,
            "wall_seconds": round(time.perf_counter() - self._wall, 3),
            "cpu_seconds": round(time.process_time() - self._cpu, 3),
            "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            "commit": commit,
            "dirty": dirty,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cpu_count": os.cpu_count(),
            "versions": package_versions(),
            **more,
        }
        (scratch / "runtime.json").write_text(canonical_json(runtime), encoding="utf-8")


def package_versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in _PACKAGES}


def git_commit() -> tuple[str | None, bool | None]:
    """(commit id, whether tracked files differ from it); Nones outside a git checkout."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], capture_output=True, text=True, check=True, timeout=30
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "-uno"))
    except (OSError, subprocess.SubprocessError):
        return None, None
