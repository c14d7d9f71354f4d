"""Tables as CSV where stages start too often to wait for pandas: the bytes that it would write.

A spreadsheet takes text that begins with =, +, - or @ for a formula and computes it. Such text has
an apostrophe before it in a file, which makes it text there; whoever reads the file takes it away.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def inert_cell(value: Any) -> Any:
    """`value`; where it is text that a spreadsheet would compute, with an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and _computed(value) else value


def cell_as_it_was(value: Any) -> Any:
    """The inverse of `inert_cell`."""
    quoted = isinstance(value, str) and value.startswith("'") and _computed(value[1:])
    return value[1:] if quoted else value


def _computed(text: str) -> bool:
    if not _FORMULA.match(text):
        return False
    try:
        float(text)
    except ValueError:
        return True
    return False  # The same as a number.


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows of text and numbers; None is a blank."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for row in (header, *rows):
            writer.writerow([inert_cell(cell) for cell in row])


def write_series(path: Path, index: str, series: Mapping[int, Mapping[str, float]]) -> None:
    """Write values by index and name, the names as sorted columns; what is missing is a blank.

    As in a data frame, a column holds integers only where it has one for each index.
    """
    names = sorted({name for values in series.values() for name in values})
    columns = {name: [series[at].get(name, math.nan) for at in sorted(series)] for name in names}
    for name, column in columns.items():
        if not all(isinstance(value, int) for value in column):
            columns[name] = [float(value) for value in column]
    blank = [[None if value != value else value for value in column] for column in columns.values()]
    write_rows(path, [index, *names], zip(sorted(series), *blank, strict=True))
