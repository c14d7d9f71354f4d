"""Single files of a git repository, known by git's own listing of a commit.

The listing is what `git ls-tree -r -t COMMIT:FOLDER` prints, kept as `tree.txt` beside the files.
It hashes to the id of the folder's tree, so where that is right each line of it is, and every file
is known by its blob id, whether the others are there or not.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from dulwich.objects import Blob, ObjectID

from pipelines.base.errors import PipelineError
from pipelines.fetch.trees import Entries, id_of, is_file

NAME = "tree.txt"

_LINE = re.compile(rb"(\d{6}) (blob|commit|tree) ([0-9a-f]{40})\t(.+)")


def read(listing: bytes, tree: str) -> Entries | None:
    """What a listing names besides folders; None where it is not that of `tree`."""
    entries: Entries = {}
    for line in listing.split(b"\n"):
        if not line:
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            return None
        mode, kind, blob, name = found.groups()
        if kind == b"tree":
            continue
        try:
            entries[PurePosixPath(_path(name))] = (int(mode, 8), ObjectID(blob))
        except (ValueError, SyntaxError):
            return None
    return entries if id_of(entries) == tree else None


def kept(folder: Path, tree: str) -> Entries | None:
    """The same, of the listing in `folder`; None where there is none."""
    path = folder / NAME
    return read(path.read_bytes(), tree) if path.is_file() else None


def choose(entries: Entries, globs: Sequence[str] | None, where: str) -> dict[PurePosixPath, bytes]:
    """The blob ids of all files that any of `globs` matches; of all without it.

    A `*` stands for any part of a name, and for no slash.

    Raises:
        PipelineError: for a glob that matches nothing, and for a link or a repository within.
    """
    chosen = set(entries) if globs is None else set()
    for number, glob in enumerate(globs or []):
        found = {path for path in entries if _matches(path, glob)}
        if not found:
            raise PipelineError(f"{where}.files.{number}: {glob!r} matches no file of the commit")
        chosen |= found
    odd = next((path for path in sorted(chosen) if not is_file(entries[path])), None)
    if odd is not None:
        raise PipelineError(
            f"{where}: {odd} is a link or another repository; name the files without it in files"
        )
    return {path: entries[path][1] for path in sorted(chosen)}


def lacking(folder: Path, files: Mapping[PurePosixPath, bytes]) -> list[PurePosixPath]:
    """Those of `files` that `folder` has not, or with other content."""

    def differs(path: Path, blob: bytes) -> bool:
        return not path.is_file() or Blob.from_string(path.read_bytes()).id != blob

    return [path for path, blob in files.items() if differs(folder / path, blob)]


def _matches(path: PurePosixPath, glob: str) -> bool:
    parts = PurePosixPath(glob).parts
    return len(parts) == len(path.parts) and all(map(fnmatchcase, path.parts, parts))


def _path(name: bytes) -> str:
    """git quotes a name with other than plain characters as C does, and Python likewise."""
    if name.startswith(b'"'):
        name = ast.literal_eval("b" + name.decode("ascii"))
    return name.decode("utf-8", "surrogateescape")
