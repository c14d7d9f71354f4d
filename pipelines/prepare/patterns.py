"""The files that a folder or a pattern of a data card stands for."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".jp2"),
}
"""What counts as an image in a folder; how many other files it has is told."""

Key = tuple[str, ...]
"""What the stars of a path stand for, or a file's stem: equal for an image and its label."""

_STARS = re.compile(r"\*\*/|\*")


def one_form(name: str) -> str:
    """A name in the one form (NFC) of those that Unicode has for it: macOS writes another."""
    return unicodedata.normalize("NFC", name)


def is_pattern(pattern: str) -> bool:
    return "*" in pattern


def matches(files: Path, pattern: str, suffixes: Collection[str] = SUFFIXES) -> dict[str, Key]:
    """The paths below `files` that a folder or a pattern stands for, in order, and their keys."""
    if not is_pattern(pattern):
        inside = (path for path in _files(files, pattern, deep=False))
        names = [name for name in inside if PurePosixPath(name).suffix.lower() in suffixes]
        return {name: (one_form(PurePosixPath(name).stem),) for name in sorted(names)}
    plain = one_form(PurePosixPath(pattern).as_posix())
    parts = _STARS.split(plain)
    stars = ["((?:[^/]+/)*)" if star == "**/" else "([^/]*)" for star in _STARS.findall(plain)]
    *firsts, last = map(re.escape, parts)
    # Of a suffix, case does not count: .jpg, .JPG.
    last = re.sub(r"\\\.\w+$", lambda suffix: f"(?i:{suffix[0]})", last)
    starts = "".join(part + star for part, star in zip(firsts, stars, strict=True))
    expression = re.compile(starts + last)
    found = {
        name: expression.fullmatch(one_form(name))
        for name in sorted(_files(files, top_of(pattern)))
    }
    return {name: match.groups() for name, match in found.items() if match}


def top_of(pattern: str) -> str:
    """The folder in which all is that a folder or a pattern stands for."""
    if not is_pattern(pattern):
        return PurePosixPath(pattern).as_posix()
    return PurePosixPath(pattern.partition("*")[0] + "x").parent.as_posix()


def expected(pattern: str, key: Key, suffix: str = ".png") -> str:
    """The path that `pattern` has for `key`."""
    if not is_pattern(pattern):
        return f"{pattern.rstrip('/')}/{key[0]}{suffix}"
    words = iter(key)
    return _STARS.sub(lambda _: next(words), pattern)


def left_out(files: Path, folder: str, suffixes: Collection[str]) -> Counter[str]:
    """How many files of a folder are not looked at, by suffix; nothing for a pattern."""
    if is_pattern(folder):
        return Counter()
    found = [PurePosixPath(name).suffix.lower() for name in _files(files, folder, deep=False)]
    return Counter(suffix or "no suffix" for suffix in found if suffix not in suffixes)


def below(files: Path, folder: str, suffixes: Collection[str]) -> list[str]:
    """Files in subfolders of a folder, for which this does not stand, that look like its own."""
    direct = set(_files(files, folder, deep=False))
    return [
        name
        for name in sorted(_files(files, folder))
        if name not in direct and PurePosixPath(name).suffix.lower() in suffixes
    ]


def _files(files: Path, folder: str, deep: bool = True) -> Iterator[str]:
    """Paths below `files` of what is in a folder, apart from what is hidden; links are followed."""
    for top, folders, names in os.walk(_on_disk(files, folder), followlinks=True):
        folders[:] = [
            name
            for name in folders
            if deep and not name.startswith(".") and not _leads_back(Path(top, name))
        ]
        for name in names:
            path = Path(top, name)
            if not name.startswith(".") and path.is_file():
                yield path.relative_to(files).as_posix()


def _leads_back(folder: Path) -> bool:
    """Whether it is a link to a folder that it is in."""
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())


def _on_disk(files: Path, folder: str) -> Path:
    """The folder, in the form of its name that the disk has, perhaps another than the card's."""
    path = files
    for part in PurePosixPath(folder).parts:
        twins = [] if (path / part).exists() or not path.is_dir() else sorted(path.iterdir())
        path /= next((twin.name for twin in twins if one_form(twin.name) == one_form(part)), part)
    return path
