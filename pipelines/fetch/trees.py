"""The id that git gives to the content of a folder, computed for a plain folder.

A folder that was copied no longer has all that git's id speaks of: file systems and archives lose
or invent the executable bit, and desktops leave files of their own behind. So a folder counts as
the one with the expected id when its files have it with their own modes, or all as plain files, or
all as executables, with or without what desktops leave behind. Contents and names always count.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from dulwich.objects import Blob, ObjectID, Tree

_PLAIN, _EXECUTABLE, _FOLDER = 0o100644, 0o100755, 0o040000
_LEFT_BEHIND = {".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX"}

Entries = dict[PurePosixPath, tuple[int, ObjectID]]
"""git's mode and blob id by path below a folder."""


def files_with_id(folder: Path, expected: str) -> list[PurePosixPath] | None:
    """The files below `folder` that together have git's tree id `expected`; None without any.

    Paths are relative to `folder`.
    """
    entries = _entries(folder)
    for candidate in _readings(entries):
        if id_of(candidate) == expected:
            return list(candidate)
    return None


def tree_id(folder: Path) -> str:
    """git's tree id of all files below `folder`, with the modes that they have."""
    return id_of(_entries(folder))


def is_file(entry: tuple[int, bytes]) -> bool:
    """Whether an entry is a file, not a link or a repository within."""
    return entry[0] in (_PLAIN, _EXECUTABLE)


def _entries(folder: Path) -> Entries:
    entries: Entries = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            mode = _EXECUTABLE if path.stat().st_mode & 0o100 else _PLAIN
            blob = Blob.from_string(path.read_bytes()).id
            entries[PurePosixPath(path.relative_to(folder))] = (mode, blob)
    return entries


def _readings(entries: Entries) -> Iterator[Entries]:
    own = {path: entry for path, entry in entries.items() if not left_behind(path)}
    for chosen in (entries, own):
        yield chosen
        for mode in (_PLAIN, _EXECUTABLE):
            yield {path: (mode, blob) for path, (_, blob) in chosen.items()}


def left_behind(path: PurePosixPath) -> bool:
    """Whether a desktop put the file there, not a person."""
    return any(part in _LEFT_BEHIND or part.startswith("._") for part in path.parts)


def is_text(name: str) -> bool:
    """Whether a file's name can be written as UTF-8; Python keeps other bytes as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def id_of(entries: Entries) -> str:
    """git's tree id of these."""
    tree = Tree()
    below: dict[str, Entries] = {}
    for path, (mode, blob) in entries.items():
        if len(path.parts) == 1:
            tree.add(os.fsencode(path.name), mode, blob)
        else:
            rest = PurePosixPath(*path.parts[1:])
            below.setdefault(path.parts[0], {})[rest] = (mode, blob)
    for name, inner in below.items():
        tree.add(os.fsencode(name), _FOLDER, ObjectID(id_of(inner).encode()))
    return tree.id.decode()
