"""Who may work where: one process at a time, the others wait or are refused."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from pipelines.base.errors import PipelineError

_mine: set[Path] = set()
"""The locks that this process holds by `alone`."""


@contextlib.contextmanager
def held(path: Path, *, shared: bool = False) -> Iterator[int]:
    """Hold the lock at `path`, a file; waits while another process has it.

    Yields the descriptor that carries the lock. A program that inherits it keeps the lock for as
    long as it runs, even when this process is killed: nobody works in a folder where it still
    writes. That is what `filelock` cannot do.

    Args:
        shared: with others that ask for it likewise, as readers do.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with path.open("a") as file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process, which holds {path}", file=sys.stderr, flush=True)
            fcntl.flock(file, kind)
        yield file.fileno()


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the only process that writes `folder`, and remove what a killed one left beside it.

    The lock is `.NAME.lock` beside the folder for as long as it is held; what is removed is called
    `.NAME.` and more. Within the block the same process may ask again.

    Raises:
        PipelineError: at once, when another process writes it.
    """
    path = folder.with_name(f".{folder.name}.lock").absolute()
    if path in _mine:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _locked(path, folder)
    _mine.add(path)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"pid {os.getpid()} on {os.uname().nodename}".encode())
        for left in path.parent.glob(f".{glob.escape(folder.name)}.*"):
            if left != path:
                _remove(left)
        yield
    finally:
        _mine.discard(path)
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(path: Path, folder: Path) -> int:
    """A descriptor of the file at `path`, whose lock this process holds until it closes it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            # A record lock: processes that load data, which are forks of this one, do not inherit
            # it, and it ends with this process when they do not yet.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            who = os.read(descriptor, 200).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise PipelineError(
                f"{folder}: another process ({who}) writes here; wait for it, or end it, and give "
                "the same command again"
            ) from None
        # Who held it before removed the file: then this is a lock of nothing.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)


def _remove(left: Path) -> None:
    if not left.is_dir():
        left.unlink()
        return
    # Renamed first: a process that outlived the killed one finds no place to write any more.
    gone = left.with_name(f"{left.name}.gone")
    left.replace(gone)
    shutil.rmtree(gone)
