"""Lists of the images of a split: text files of whatever tool, with a line an image."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from pipelines.prepare.faults import Unusable

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
"""Byte order marks, by which a file says its encoding; the longer before what begins like it."""


def read_text(path: Path) -> str:
    """The text of a file that is UTF-8, or says by its byte order mark what else.

    Raises:
        Unusable: when it is neither.
    """
    data = path.read_bytes()
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise Unusable(
            f"is not UTF-8 (byte {data[error.start]:#04x} in line {line}), perhaps Latin-1; "
            f"expected UTF-8: iconv -f latin1 -t utf-8 {path.name} > new.txt"
        ) from None
    if "\0" in text:
        raise Unusable("holds zero bytes, perhaps UTF-16 without its mark; expected UTF-8")
    return text


def lines(
    files: Path, name: str, strip: str | None, known: Callable[[str], bool]
) -> Iterator[tuple[str, list[str]]]:
    """Where each line of the list `name` stands, and its words; one that is `known` holds spaces.

    Raises:
        Unusable: when the file is not text.
    """
    prefix = strip or ""
    for number, line in enumerate(read_text(files / name).splitlines(), start=1):
        shortened = line.strip().removeprefix(prefix)
        words = map(str.strip, line.split("\t")) if "\t" in line.strip() else line.split()
        columns = [word.removeprefix(prefix) for word in words]
        if len(columns) > 1 and known(shortened):
            columns = [shortened]
        if columns:
            yield f"{name}, line {number}", columns


def wrong_line(split: str, columns: list[str]) -> str | None:
    """What is wrong with the paths of a line."""
    if len(columns) > 2:
        return f"has {len(columns)} columns; expected an image and at most its label"
    for column in columns:
        if "\\" in column:
            return f"{column} has backslashes; expected / between folders and names"
        if PurePosixPath(column).is_absolute() or ".." in PurePosixPath(column).parts:
            return (
                f"{column} is not below files/; source.splits.{split}.strip takes away what "
                "the list's paths begin with"
            )
    return None
