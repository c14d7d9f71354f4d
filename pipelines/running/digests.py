"""Digests of large files and folders, which need not be hashed each time.

`work/digests.jsonl` remembers what was hashed, a line each: the path, its state (of every file its
size and when it changed), and the digest. As long as the state is the same, so is the digest. Small
files are always hashed, and all are after `trust(False)`, which `--verify` of a command asks for.
A line is appended in one write, so that many processes may remember at once; the last one counts.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pipelines.base.artifacts import sha256_file, sha256_json
from pipelines.study import WORK

MEMORY = WORK / "digests.jsonl"

SMALL = 2**20
"""Bytes of a file that is hashed each time."""

_TICK = 0.1
"""Seconds: what changed that short a time ago may change again and keep its time."""

_trusted = True


def trust(memory: bool) -> None:
    """Whether this process takes a digest from memory, or hashes every byte anew."""
    global _trusted
    _trusted = memory


def digest_of_file(path: Path) -> str:
    """sha256 of a file.

    Raises:
        OSError: when it cannot be read.
    """
    if path.stat().st_size < SMALL:
        return sha256_file(path)
    return remembered(path.as_posix(), [path], lambda: sha256_file(path))


def remembered(key: str, files: Sequence[Path], compute: Callable[[], str]) -> str:
    """The digest of `files`: the one that is known of them in their state, or a new one.

    Args:
        key: what they are known by.

    Raises:
        OSError: when one of them is gone, or as `compute` does.
    """
    state = _state(files)
    known = _known().get(key)
    if _trusted and known is not None and known[0] == state:
        return known[1]
    if len(files) > 1:
        print(f"hashing {key}: {len(files)} files", file=sys.stderr, flush=True)
    digest = compute()
    _append(key, files, state, digest)
    return digest


def remember(key: str, files: Sequence[Path], digest: str) -> None:
    """Keep a digest of files that were just written."""
    _append(key, files, _state(files), digest)


def remember_file(path: Path, digest: str) -> None:
    """The same for a file, where it is one that is remembered."""
    if path.stat().st_size >= SMALL:
        remember(path.as_posix(), [path], digest)


def _state(files: Sequence[Path]) -> str:
    """Of each file its size, and when its content and its entry in the file system changed: the
    second time is kept by no copy and set by no `touch`."""
    states = []
    for path in files:
        status = path.stat()
        states.append([path.as_posix(), status.st_size, status.st_mtime_ns, status.st_ctime_ns])
    return sha256_json(states)


def _append(key: str, files: Sequence[Path], state: str, digest: str) -> None:
    newest = max((path.stat().st_ctime for path in files), default=0.0)
    if state != _state(files) or abs(time.time() - newest) < _TICK:
        return
    line = json.dumps([key, state, digest]) + "\n"
    try:
        MEMORY.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(MEMORY, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
    except OSError:
        return  # A full disk: it is hashed again the next time.


def _known() -> dict[str, tuple[str, str]]:
    """State and digest by key."""
    try:
        status = MEMORY.stat()
    except FileNotFoundError:
        return {}
    return _read(MEMORY.absolute(), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=1)
def _read(memory: Path, size: int, changed: int) -> dict[str, tuple[str, str]]:
    """What stands in the memory of that size and time; a line that is not whole counts for
    nothing."""
    known: dict[str, tuple[str, str]] = {}
    for line in memory.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            key, state, digest = json.loads(line)
        except (ValueError, TypeError):
            continue
        known[str(key)] = (str(state), str(digest))
    return known
