"""The one exception that a user of the commands is meant to read."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

_REMEDIES = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some of your quota there",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EIO: "the disk or the way to it fails: look after it",
    errno.ESTALE: "the network's file system went away: have it mounted again",
    errno.EROFS: "have it mounted writable",
    errno.EACCES: "get the right to use it",
    errno.EPERM: "get the right to use it",
    errno.ENAMETOOLONG: "shorten the name",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the limit of open files",
    errno.ENOMEM: "free some memory",
}
"""What a user can do about the errors that say something of the machine and not of the code."""


class PipelineError(Exception):
    """Bad input or a state that only the user can mend.

    Its message names the file, key or argument and what was expected; the commands print it as one
    line, without a traceback, and exit with status 2.
    """


@contextlib.contextmanager
def disk_errors(place: Path | str) -> Iterator[None]:
    """Turn what a disk refuses within the block (full, failing, read-only) into PipelineError.

    Args:
        place: what to name where the error itself names no file, as that of a write does not.
    """
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0)
        if remedy is None:
            raise
        # An error of two files, such as a rename's, is about the second one's place.
        name = error.filename2 or error.filename or place
        shown = os.fsdecode(name) if isinstance(name, bytes | str | os.PathLike) else place
        raise PipelineError(
            f"{shown}: {error.strerror}; {remedy}, then give the same command again"
        ) from error


class Faults:
    """Collects the errors of several checks, so that all of them are told at once."""

    def __init__(self) -> None:
        self._told: list[str] = []

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Go on after a PipelineError of the block."""
        try:
            yield
        except PipelineError as error:
            self.add(str(error))

    def add(self, told: str) -> None:
        """Note an error, unless the same was noted before."""
        if told not in self._told:
            self._told.append(told)

    def raise_all(self) -> None:
        """Raise one PipelineError with all that was noted, an error a line, if there is any."""
        if self._told:
            raise PipelineError("\n".join(self._told))
