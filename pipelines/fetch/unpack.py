"""What zip and tar archives hold, written below one folder and nowhere else.

Names, types and sizes in an archive are claims of whoever made it. Only contents are taken from the
libraries that read archives; paths are checked and files written here, so no link, owner, mode or
device reaches the disk. A link to another member becomes a copy of it.
"""

from __future__ import annotations

import contextlib
import lzma
import posixpath
import re
import stat
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from tqdm import tqdm

from pipelines.base.errors import PipelineError
from pipelines.fetch import Stopped
from pipelines.fetch.trees import is_text

_CHUNK = 2**20
_BLOCK = 512
_BROKEN = (EOFError, OSError, zlib.error, lzma.LZMAError, RuntimeError, NotImplementedError)


class _Member(NamedTuple):
    name: str
    content: IO[bytes] | None
    """None for a folder or a link."""
    link: str | None
    """To which member, by its name."""


class _Unsafe(Exception):
    """What is wrong with an archive or a member of it."""


def unpack(archive: Path, target: Path, bound: int, where: str, stop: threading.Event) -> None:
    """Write all files of a zip or tar (gz, bz2, xz) archive below `target`.

    Args:
        bound: how many bytes the files may have together.
        where: what an error message calls the archive's part.
        stop: set by another thread to end the work early.

    Raises:
        PipelineError: naming the member that leads out of `target`, is a device or encrypted, or
            goes beyond `bound`; or for an archive that is damaged, cut short or of another kind.
    """
    target.mkdir(parents=True, exist_ok=True)
    try:
        with archive.open("rb") as file:
            is_zip = file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
        members = _zip_members(archive) if is_zip else _tar_members(archive)
        with contextlib.closing(members):
            _write(members, target, bound, archive, stop)
    except _Unsafe as error:
        raise PipelineError(
            f"{where}: {archive}: {error}; nothing of it was used. See that it is the right file "
            "and whole; if not, delete it and run the same command again"
        ) from None


def _write(
    members: Iterator[_Member], target: Path, bound: int, archive: Path, stop: threading.Event
) -> None:
    left = bound
    links: dict[str, str] = {}
    with tqdm(
        desc=archive.name, unit="B", unit_scale=True, unit_divisor=1024, disable=None
    ) as progress:
        for member in members:
            if stop.is_set():
                raise Stopped
            path = target / member.name
            try:
                if member.link is not None:
                    links[member.name] = member.link
                elif member.content is None:
                    path.mkdir(parents=True, exist_ok=True)
                else:
                    left -= _copy(member.content, path, left, bound, progress)
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                raise _Unsafe(f"{member.name}: is a file and a folder in one archive") from None
            except _Unsafe as error:
                raise _Unsafe(f"{member.name}: {error}") from None
        for name in links:
            source = target / _resolve(name, links)
            if not source.is_file():
                raise _Unsafe(f"{name}: a link to {links[name]}, which is no file of the archive")
            with source.open("rb") as content:
                left -= _copy(content, target / name, left, bound, progress)


def _copy(content: IO[bytes], path: Path, left: int, bound: int, progress: tqdm) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with path.open("wb") as file:
        while chunk := _read(content):
            count += len(chunk)
            if count > left:
                raise _Unsafe(
                    f"with it the archive holds more than the {bound} bytes that unpacked_bytes in "
                    "the data card allows"
                )
            file.write(chunk)
            progress.update(len(chunk))
    return count


def _read(content: IO[bytes]) -> bytes:
    try:
        return content.read(_CHUNK)
    except (*_BROKEN, zipfile.BadZipFile, tarfile.TarError) as error:
        raise _Unsafe(f"damaged or cut short ({error})") from None


def _resolve(name: str, links: dict[str, str]) -> str:
    seen = {name}
    target = links[name]
    while target in links:
        if target in seen:
            raise _Unsafe(f"{name}: links that lead in a circle")
        seen.add(target)
        target = links[target]
    return target


def _zip_members(archive: Path) -> Generator[_Member, None, None]:
    last = None
    try:
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                name = last = _safe(info.filename)
                kind = stat.S_IFMT(info.external_attr >> 16)
                if info.flag_bits & 0x1:
                    raise _Unsafe(f"{name}: is encrypted")
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
                    raise _Unsafe(f"{name}: is a device or another special file")
                if info.is_dir():
                    yield _Member(name, None, None)
                    continue
                with opened.open(info) as content:
                    if kind == stat.S_IFLNK:
                        to = _read(content).decode("utf-8", "replace")
                        yield _Member(name, None, _linked(name, to))
                    else:
                        yield _Member(name, content, None)
    except (zipfile.BadZipFile, *_BROKEN) as error:
        raise _damaged("at", last, error) from None


def _tar_members(archive: Path) -> Generator[_Member, None, None]:
    last = None
    try:
        with tarfile.open(archive, "r:*") as opened:
            while info := opened.next():
                if info.name in (".", "./"):
                    continue
                name = last = _safe(info.name)
                if info.isdir():
                    yield _Member(name, None, None)
                elif info.issym():
                    yield _Member(name, None, _linked(name, info.linkname))
                elif info.islnk():
                    yield _Member(name, None, _safe(info.linkname))
                elif info.isfile():
                    yield _Member(name, opened.extractfile(info), None)
                else:
                    raise _Unsafe(f"{name}: is a device or another special file")
            _check_end(opened)
    except (tarfile.TarError, *_BROKEN) as error:
        raise _damaged("after", last, error) from None


def _check_end(opened: tarfile.TarFile) -> None:
    """tarfile takes any end for the end; an archive that is whole has a block of zeros there."""
    opened.fileobj.seek(opened.offset)
    if opened.fileobj.read(_BLOCK) != bytes(_BLOCK):
        raise tarfile.ReadError("no end of the archive")
    # To the end of the compressed stream, where its checksum is.
    while opened.fileobj.read(_CHUNK):
        pass


def _damaged(how: str, last: str | None, error: Exception) -> _Unsafe:
    if last is None:
        return _Unsafe(f"is no zip or tar archive, or is damaged ({type(error).__name__})")
    return _Unsafe(f"damaged or cut short {how} {last} ({error})")


def _safe(name: str) -> str:
    """The path of a member below the target."""
    path = name.replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or re.match(r"[A-Za-z]:", path) or ".." in parts or not parts:
        raise _Unsafe(f"{name}: leads out of the folder that the archive is unpacked in")
    if "\0" in name or not is_text(name):
        raise _Unsafe(f"{name!r}: a name that is no UTF-8 text")
    return "/".join(parts)


def _linked(name: str, to: str) -> str:
    """Which member a symbolic link means."""
    if to.startswith("/"):
        raise _Unsafe(f"{name}: links to {to}, out of the archive")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(name), to))
    if path == ".." or path.startswith("../"):
        raise _Unsafe(f"{name}: links to {to}, out of the archive")
    return path
