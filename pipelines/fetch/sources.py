"""Where the content of one part of a data card is, verified; from this machine or from elsewhere.

`local_content` looks at what is on this machine: the mirror, the downloads, a user's own folder or
archive. `bring_content` asks the network or a publisher's program, and leaves what it gets among
the downloads.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from pipelines.base.errors import PipelineError
from pipelines.fetch import checksums, command, download, git, listing, mirror
from pipelines.fetch.trees import files_with_id, is_text, left_behind, tree_id
from pipelines.study.cards import (
    ArchivePart,
    CommandPart,
    Download,
    FirstOf,
    FolderPart,
    GitPart,
    Part,
    UrlPart,
)


class Owner(Protocol):
    """Whose files are fetched: a data set, or a model entry with weights."""

    @property
    def shelf(self) -> str: ...

    @property
    def downloads(self) -> Path: ...


@dataclass(frozen=True)
class Work:
    """What is common to all parts of one fetch."""

    dataset: Owner
    lock: int
    """Descriptor that programs inherit, see `locks`."""
    stop: threading.Event
    """Set when another part has failed."""
    allow_commands: bool = False
    """Whether the user allows the programs of this data card, whatever they are."""


@dataclass(frozen=True)
class LocalFile:
    """A file, and what the card says of it."""

    path: Path
    download: Download


@dataclass(frozen=True)
class LocalFolder:
    """A folder, which of its files count, and where they go below `files/`."""

    path: Path
    files: list[PurePosixPath]
    below: str


Content = Sequence[LocalFile | LocalFolder]


def local_content(part: Part | FirstOf, work: Work, where: str) -> Content | None:
    """The content of `part` where all of it is on this machine; None where it is not.

    Raises:
        PipelineError: for something in its place that is not what the card says.
    """
    match part:
        case FirstOf():
            parts = (
                local_content(each, work, f"{where}.parts.{n}") for n, each in part.parts.items()
            )
            return next((content for content in parts if content is not None), None)
        case UrlPart():
            file = _local_file(part, work, where, by_hand=False)
            return None if file is None else [file]
        case CommandPart():
            found = [_local_file(each, work, where, by_hand=True) for each in part.downloads]
            whole = [file for file in found if file is not None]
            return whole if len(whole) == len(found) else None
        case GitPart():
            return _local_git(part, work, where)
        case FolderPart():
            folder = Path(part.path)
            below = part.below or ""
            return [LocalFolder(folder, _listed(folder), below)] if folder.is_dir() else None
        case ArchivePart():
            path = Path(part.path)
            if not path.is_file():
                file = _local_file(part, work, where, by_hand=True)
                return None if file is None else [file]
            _verify(path, part, work, where)
            return [LocalFile(path, part)]


def bring_content(part: Part | FirstOf, work: Work, where: str) -> Content:
    """The content of `part`, brought to this machine.

    Raises:
        PipelineError: when it cannot be had, saying what to do.
    """
    match part:
        case FirstOf():
            return _first(part, work, where)
        case UrlPart():
            return [_downloaded(part, work, where)]
        case CommandPart():
            return [_from_command(part, each, work, where) for each in part.downloads]
        case GitPart():
            mirror.lacks(work.dataset.shelf, part.place)
            bring = git.fetch_files if part.by_file else git.fetch_folder
            bring(part, work.dataset.downloads / part.place, where, work.lock)
            brought = _local_git(part, work, where)
            assert brought is not None  # It was verified when it came.
            return brought
        case FolderPart():
            raise PipelineError(f"{where}.path: {part.path}: no such folder; put your files there")
        case ArchivePart():
            account = f" (from {part.account})" if part.account else ""
            raise PipelineError(f"{where}.path: {part.path}: no such file; put it there{account}")


def _first(part: FirstOf, work: Work, where: str) -> Content:
    failures = []
    for name, each in part.parts.items():
        try:
            return bring_content(each, work, f"{where}.parts.{name}")
        except PipelineError as error:
            failures.append(str(error))
            print(f"{error}\ntrying the next of {where}", file=sys.stderr, flush=True)
    raise PipelineError("\n".join(failures))


def _local_file(wanted: Download, work: Work, where: str, *, by_hand: bool) -> LocalFile | None:
    mirrored = mirror.find(work.dataset.shelf, wanted.file)
    if mirrored is not None:
        _verify(mirrored, wanted, work, where)
        return LocalFile(mirrored, wanted)
    path = work.dataset.downloads / wanted.file
    if not path.is_file():
        return None
    wrong = checksums.mismatch(path, checksums.expected(work.dataset.shelf, wanted))
    if wrong is None:
        return LocalFile(path, wanted)
    if by_hand:
        raise PipelineError(f"{where}: {path} {wrong}; {checksums.advice(wanted)}, or delete it")
    print(f"{path} {wrong}; downloading it again", file=sys.stderr, flush=True)
    return None


def _verify(path: Path, wanted: Download, work: Work, where: str) -> None:
    wrong = checksums.mismatch(path, checksums.expected(work.dataset.shelf, wanted))
    if wrong is not None:
        raise PipelineError(
            f"{where}: {path} {wrong}; {checksums.advice(wanted)}, or put the right file there"
        )


def _downloaded(part: UrlPart, work: Work, where: str) -> LocalFile:
    name = work.dataset.shelf
    mirror.lacks(name, part.file)
    target = work.dataset.downloads / part.file
    expected = checksums.expected(name, part)
    download.download(part.urls, target, expected, checksums.advice(part), where, work.stop)
    return LocalFile(target, part)


def _from_command(part: CommandPart, wanted: Download, work: Work, where: str) -> LocalFile:
    file = _local_file(wanted, work, where, by_hand=True)
    if file is not None:
        return file
    mirror.lacks(work.dataset.shelf, wanted.file)
    target = work.dataset.downloads / wanted.file
    expected = checksums.expected(work.dataset.shelf, wanted)
    folder = target.with_name(f"{target.name}.part")
    left = folder / PurePosixPath(wanted.file).name
    folder.mkdir(parents=True, exist_ok=True)
    names = " and ".join(each.file for each in part.downloads)
    source = f" from {part.account}" if part.account else ""
    by_hand = f"download {names}{source} and put into {work.dataset.downloads}/"
    known = any(name in expected for name in checksums.ALGORITHMS)
    # A kill just after the last byte leaves a whole file, which a program may refuse to resume.
    if not (known and left.is_file() and checksums.mismatch(left, expected) is None):
        command.check_allowed(part, work.allow_commands, where)
        command.run(part, wanted, folder, by_hand, where, work.lock, work.stop)
    wrong = checksums.mismatch(left, expected)
    if wrong is not None:
        raise PipelineError(
            f"{where}: {left} {wrong}; {checksums.advice(wanted)}; else delete {folder} and run "
            "the same command again"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(left, target)
    shutil.rmtree(folder)
    return LocalFile(target, wanted)


def _local_git(part: GitPart, work: Work, where: str) -> Content | None:
    if part.by_file:
        return _local_git_files(part, work, where)
    mirrored = mirror.find(work.dataset.shelf, part.place)
    if mirrored is not None:
        files = files_with_id(mirrored, part.tree)
        if files is None:
            raise PipelineError(
                f"{where}: the mirror's {mirrored} has git's tree id {tree_id(mirrored)}, expected "
                f"{part.tree}; put the right files there or unset {mirror.VARIABLE}"
            )
        return [LocalFolder(mirrored, files, part.place)]
    folder = work.dataset.downloads / part.place
    files = files_with_id(folder, part.tree) if folder.is_dir() else None
    return None if files is None else [LocalFolder(folder, files, part.place)]


def _local_git_files(part: GitPart, work: Work, where: str) -> Content | None:
    mirrored = mirror.find(work.dataset.shelf, part.place)
    if mirrored is not None and (mirrored / listing.NAME).is_file():
        entries = listing.kept(mirrored, part.tree)
        if entries is None:
            raise PipelineError(
                f"{where}: the mirror's {mirrored / listing.NAME} is not git's listing of the tree "
                f"{part.tree}; put the right one there or unset {mirror.VARIABLE}"
            )
        files = listing.choose(entries, part.files, where)
        lacking = listing.lacking(mirrored, files)
        wrong = next((path for path in lacking if (mirrored / path).exists()), None)
        if wrong is not None:
            raise PipelineError(
                f"{where}: the mirror's {mirrored / wrong} is not the file of the commit, whose "
                f"blob id is {files[wrong].decode()}; put the right one there or unset "
                f"{mirror.VARIABLE}"
            )
        if not lacking:
            return [LocalFolder(mirrored, list(files), part.place)]
    folder = work.dataset.downloads / part.place
    entries = listing.kept(folder, part.tree)
    files = {} if entries is None else listing.choose(entries, part.files, where)
    if not files or listing.lacking(folder, files):
        return None
    return [LocalFolder(folder, list(files), part.place)]


def _listed(folder: Path) -> list[PurePosixPath]:
    """All files of a user's own folder, also behind links, without what desktops leave there.

    Raises:
        PipelineError: naming a link that leads in a circle.
    """
    files = []
    for path, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        below = Path(path).relative_to(folder)
        above = [folder / each for each in below.parents] if below.parts else []
        real = Path(path).resolve()
        if any(each.resolve().is_relative_to(real) for each in above):
            raise PipelineError(f"{path}: a link to a folder above it; remove the link")
        odd = next((name for name in (*folders, *names) if not is_text(name)), None)
        if odd is not None:
            raise PipelineError(f"{path}: {odd!r}: a name that is no UTF-8 text; rename it")
        files += [PurePosixPath(below / name) for name in sorted(names)]
    return [file for file in files if not left_behind(file)]
