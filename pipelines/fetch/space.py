"""Room on the disk: asked for before work begins, and said plainly when it runs out."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from pipelines.base.errors import PipelineError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def require(needs: Iterable[tuple[Path, int]]) -> None:
    """Check that the file systems of all these places have room.

    Args:
        needs: places, whether they exist or not, and how many bytes will be written there.

    Raises:
        PipelineError: naming a place without enough room.
    """
    total: dict[int, int] = {}
    places: dict[int, Path] = {}
    for place, count in needs:
        there = _existing(place)
        device = there.stat().st_dev
        total[device] = total.get(device, 0) + count
        places.setdefault(device, place)
    for device, count in total.items():
        free = shutil.disk_usage(_existing(places[device])).free
        if count > free:
            raise PipelineError(
                f"{places[device]}: {_human(count)} are needed and {_human(free)} are free; free "
                "some, or make data/ a link to a folder on a larger disk"
            )


@contextlib.contextmanager
def reported(where: str) -> Iterator[None]:
    """Turn what the file system refuses into a PipelineError that says what to do."""
    try:
        yield
    except OSError as error:
        place = error.filename or "the disk"
        if error.errno in _FULL:
            raise PipelineError(
                f"{where}: {place}: {error.strerror}; free some room and run the same command "
                "again, it goes on from here"
            ) from error
        raise PipelineError(
            f"{where}: {place}: {error.strerror or error}; see that it can be read and written, "
            "then run the same command again"
        ) from error


def _existing(place: Path) -> Path:
    place = place.absolute()
    return next(each for each in (place, *place.parents) if each.exists())


def _human(count: int) -> str:
    return tqdm.format_sizeof(count, "B", 1024)
