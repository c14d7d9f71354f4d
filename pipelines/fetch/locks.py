"""One process at a time fetches a data set; the others wait and find its files."""

from __future__ import annotations

import contextlib
import fcntl
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def held(path: Path) -> Iterator[int]:
    """Hold the lock at `path`, a file; waits while another process has it.

    Yields the descriptor that carries the lock. A program that inherits it keeps the lock for as
    long as it runs, even when this process is killed: nobody works in a folder where it still
    writes. That is what `filelock` cannot do.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process, which holds {path}", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()
