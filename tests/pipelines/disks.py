"""Disks that fail: one that refuses the N-th change, and one that a crash takes what is unsynced.

Both stand between Python and the real disk, by the functions that all writing goes through: `open`,
and `os.mkdir`, `rename`, `replace` and `fsync`. What C++ writes itself (Parquet) they do not see.
"""

from __future__ import annotations

import builtins
import io
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

_NAMES = ("mkdir", "rename", "replace", "fsync", "unlink", "remove", "rmdir")


class Disk:
    """Sees what is written within `mounted`; a subclass says what comes of it."""

    def before(self, change: str, path: str) -> None:
        """`change` (of `_NAMES`, "open" or "write") is about to be made to `path`."""

    def after(self, change: str, path: str, target: str | None) -> None:
        """It was made; `target` is what a rename made of the path."""

    @contextmanager
    def mounted(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for module in (builtins, io):
                patch.setattr(module, "open", self._open)
            for name in _NAMES:
                patch.setattr(os, name, self._watched(name, getattr(os, name)))
            yield

    def _watched(self, name, change):
        def watched(path, *arguments, **options):
            shown, target = _absolute(path, options.get("dir_fd")), None
            if name in ("rename", "replace"):
                target = _absolute(arguments[0])
            with _LOCK:
                self.before(name, shown)
                result = change(path, *arguments, **options)
                self.after(name, shown, target)
            return result

        return watched

    def _open(self, file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, **more):
        if not set(mode) & set("wax+"):
            return _OPEN(file, mode, buffering, encoding, errors, newline, **more)
        path = _absolute(file)
        with _LOCK:
            self.before("open", path)
        raw = _File(file, mode.replace("b", "").replace("t", ""), **more)
        raw.disk = self
        with _LOCK:
            self.after("open", path, None)
        if buffering == 0:
            return raw
        whole = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return whole
        return io.TextIOWrapper(whole, encoding, errors, newline, line_buffering=buffering == 1)


class _File(io.FileIO):
    disk: Disk

    def write(self, data):
        with _LOCK:
            self.disk.before("write", str(self.name))
        return super().write(data)


_OPEN = open
_LOCK = threading.RLock()  # Files are synced by several threads.


def _absolute(path, folder: int | None = None) -> str:
    if isinstance(path, int):
        return os.readlink(f"/proc/self/fd/{path}")
    start = os.getcwd() if folder is None else os.readlink(f"/proc/self/fd/{folder}")
    return os.path.normpath(os.path.join(start, os.fspath(path)))


class FailingDisk(Disk):
    """Refuses the N-th change below a folder, and from then on each other that needs room.

    Args:
        last: N; None refuses nothing.
    """

    needs_room = ("open", "write", "mkdir", "rename", "replace", "fsync")

    def __init__(self, below: Path, error: int, last: int | None = None) -> None:
        self.below, self.error, self.last = str(below.resolve()), error, last
        self.changes = 0

    def before(self, change: str, path: str) -> None:
        if change not in self.needs_room or not os.path.abspath(path).startswith(self.below):
            return
        if change == "mkdir" and os.path.isdir(path):
            return
        self.changes += 1
        if self.last is not None and self.changes >= self.last:
            name = path if change != "write" else None
            raise OSError(self.error, os.strerror(self.error), name)


@dataclass
class _Node:
    """A file or a folder, as it is and as it is on the disk."""

    synced: bytes | None = None
    """Of a file: its content at the last sync."""
    names: dict[str, _Node] | None = None
    """Of a folder; None for a file."""
    synced_names: dict[str, _Node] = field(default_factory=dict)


class ForgettingDisk(Disk):
    """Writes down what happens below a folder, and shows what a crash would leave of it.

    What lies there at first is on the disk. A file's content is as at its last `fsync`, and empty
    where there was none; a name is there after the `fsync` of its folder, and may be there before.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._tree = self._found(self.root)
        self.states: list[tuple[str, dict[str, bytes], dict[str, bytes]]] = []
        """After each change: what was done, and what a crash then leaves: all names, or synced
        names only."""

    def after(self, change: str, path: str, target: str | None) -> None:
        if not path.startswith(f"{self.root}{os.sep}") and path != str(self.root):
            return
        if change == "fsync":
            self._sync(Path(path))
        elif change in ("unlink", "remove", "rmdir"):
            self._parent(path).pop(Path(path).name, None)
        elif change in ("rename", "replace"):
            node = self._parent(path).pop(Path(path).name, None) or self._found(Path(target), True)
            self._parent(target)[Path(target).name] = node
        elif change == "mkdir":
            self._parent(path)[Path(path).name] = _Node(names={})
        else:  # Opened to write: from then on the content is that of no sync.
            self._parent(path).setdefault(Path(path).name, _Node()).synced = None
        shown = f"{change} {os.path.relpath(target or path, self.root)}"
        states = (dict(_files(self._tree, synced)) for synced in (False, True))
        self.states.append((shown, *states))

    def _sync(self, path: Path) -> None:
        if path.is_dir():
            node = self._tree if path == self.root else self._node(path)
            node.synced_names = dict(node.names)
        else:
            self._node(path).synced = path.read_bytes()

    def _node(self, path: Path) -> _Node:
        """Of a path, which may be made by what this does not see."""
        found = self._found(path, new=True)
        return self._parent(str(path)).setdefault(path.name, found)

    def _parent(self, path: str) -> dict[str, _Node]:
        names = self._tree.names
        for part in Path(path).relative_to(self.root).parts[:-1]:
            names = names.setdefault(part, _Node(names={})).names
        return names

    def _found(self, path: Path, new: bool = False) -> _Node:
        if not path.is_dir():
            return _Node(None if new else path.read_bytes())
        names = {child.name: self._found(child, new) for child in path.iterdir()}
        return _Node(names=names, synced_names={} if new else dict(names))


def _files(node: _Node, synced: bool, start: str = "") -> Iterator[tuple[str, bytes]]:
    for name, child in (node.synced_names if synced else node.names).items():
        if child.names is None:
            yield f"{start}{name}", child.synced or b""
        else:
            yield f"{start}{name}/", b""
            yield from _files(child, synced, f"{start}{name}/")


def lay_out(state: dict[str, bytes], folder: Path) -> Path:
    """Write what a crash left below `folder`, which is emptied before."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in state.items():
        if name.endswith("/"):
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(content)
    return folder
