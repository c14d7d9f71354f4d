"""Writes that outlive a power cut: the content is on the disk before its name is.

A rename alone promises only that a reader sees the old file or the new one while the machine runs;
after a crash the name may lead to a file without its content. So what is renamed is synced before,
and the folder after, and nothing that is replaced is deleted earlier.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipelines.base.errors import disk_errors

_AT_ONCE = 16  # A disk joins the syncs that wait for it into one.
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP)  # Of folders on some network file systems.


def sync(path: Path) -> None:
    """Have the content of a file, or the names in a folder, written to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """`sync` for a folder and all below it."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(sync, [folder, *folder.rglob("*")]))


def copy_tree(source: Path, target: Path, skip: Collection[str] = ()) -> None:
    """Copy all files below `source` but those named in `skip`; folders that are there stay.

    `shutil.copytree` would go on after an error, and tell all of them in one that is of no kind.
    """
    for path in sorted(source.rglob("*")):
        if path.is_file() and path.name not in skip:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A new file beside `path` that takes its place when the block succeeds, on the disk too.

    After an error, or a kill, `path` is what it was.
    """
    new = path.with_name(f"{path.name}.new")
    with disk_errors(path):
        try:
            yield new
            sync(new)
            new.replace(path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        sync(path.parent)
