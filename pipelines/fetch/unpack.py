"""What zip and tar archives hold, written below one folder and nowhere else.

Names, types and sizes in an archive are claims of whoever made it. Only contents are taken from the
libraries that read archives; paths are checked and files written here, so no link, owner, mode or
device reaches the disk. A link to another member becomes a copy of it. What an archive can cost in
time and memory is bounded by its own size and by the bound on its content.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
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
from typing import IO, Any, NamedTuple

from tqdm import tqdm

from pipelines.base.errors import PipelineError
from pipelines.fetch import Stopped
from pipelines.fetch.trees import is_text

_CHUNK = 2**20
_BLOCK = 512
_HEADER = 2**16
"""Bytes of the longest header of a tar's member that says more than a block can: names, times."""
_TRAILING = 2**24
"""Bytes after the end of a tar: it is filled up with zeros."""
_MEMBERS = 10_000
"""How many members any archive may have; more where it has ten bytes for each."""
_LINKS = 40
"""Links from a name to a file, as in Linux."""
_LONGEST_PATH, _LONGEST_NAME, _DEEPEST = 1024, 255, 64
"""Bytes of a member's path and of each part of it, and parts of it."""
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
        members = _zip_members(archive) if is_zip else _tar_members(archive, bound)
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
    most, count = _most_members(archive), 0
    with tqdm(
        desc=archive.name, unit="B", unit_scale=True, unit_divisor=1024, disable=None
    ) as progress:
        for member in members:
            if stop.is_set():
                raise Stopped
            count += 1
            if count > most:
                raise _Unsafe(f"holds more than {most} members, which is too many for its size")
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


def _most_members(archive: Path) -> int:
    return _MEMBERS + archive.stat().st_size // 10


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
        if len(seen) > _LINKS:
            raise _Unsafe(f"{name}: more than {_LINKS} links from there to a file")
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


class _Header(tarfile.TarInfo):
    """Of a tar's member; one that is itself a header has to fit into memory many times."""

    def _proc_member(self, opened: tarfile.TarFile) -> tarfile.TarInfo:
        of_header = (
            *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
            *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
        )
        if self.type in of_header and self.size > _HEADER:
            raise _Unsafe(f"{self.name}: a header of {self.size} bytes; {_HEADER} is the most")
        member: tarfile.TarInfo = super()._proc_member(opened)  # type: ignore[misc]  # private
        return member

    def _sparse(self, *args: object) -> tarfile.TarInfo:
        raise _Unsafe(f"{self.name}: is a sparse file, whose list of holes may be of any size")

    _proc_sparse = _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _sparse


class _Limited(io.RawIOBase):
    """The content of a tar, which ends with an error where there is more than there can be."""

    def __init__(self, content: IO[bytes], limit: int) -> None:
        self._content, self._limit = content, limit

    def read(self, size: int = -1) -> bytes:
        self._check(self._content.tell() + max(size, 0))
        return self._content.read(_CHUNK if size < 0 else size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._check(offset)
        return self._content.seek(offset, whence)

    def tell(self) -> int:
        return self._content.tell()

    def _check(self, position: int) -> None:
        if position > self._limit:
            raise _Unsafe(
                f"is longer than {self._limit} bytes, which is too long for its members and for "
                "the bytes that unpacked_bytes in the data card allows"
            )


def _decompressed(archive: Path) -> Any:
    with archive.open("rb") as file:
        magic = file.read(6)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.open(archive)
    if magic.startswith(b"BZh"):
        return bz2.open(archive)
    if magic.startswith((b"\xfd7zXZ\0", b"\x5d\0\0")):
        return lzma.open(archive)
    return archive.open("rb")


def _tar_members(archive: Path, bound: int) -> Generator[_Member, None, None]:
    last = None
    limit = bound + _TRAILING + 6 * _BLOCK * _most_members(archive)
    try:
        with (
            _decompressed(archive) as content,
            tarfile.open(
                fileobj=_Limited(content, limit),
                mode="r:",
                tarinfo=_Header,
            ) as opened,
        ):
            while info := opened.next():
                opened.members.clear()  # type: ignore[attr-defined]  # Nobody asks for them again.
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
    left = _TRAILING
    while chunk := opened.fileobj.read(_CHUNK):
        left -= len(chunk)
        if left < 0:
            raise _Unsafe(f"goes on for more than {_TRAILING} bytes after its end")


def _damaged(how: str, last: str | None, error: Exception) -> _Unsafe:
    if last is None:
        return _Unsafe(f"is no zip or tar archive, or is damaged ({type(error).__name__})")
    return _Unsafe(f"damaged or cut short {how} {last} ({error})")


def _safe(name: str) -> str:
    """The path of a member below the target."""
    path = name.replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    sizes = [len(part.encode("utf-8", "replace")) for part in parts]
    if len(parts) > _DEEPEST or max(sizes, default=0) > _LONGEST_NAME or sum(sizes) > _LONGEST_PATH:
        raise _Unsafe(f"{name[:80]}...: a path that is too long or too deep for a file")
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
