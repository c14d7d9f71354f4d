"""Tables as CSV: equal tables give equal bytes, and come back as they were."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.base.reading import broken, reading
from pipelines.base.rows import cell_as_it_was, inert_cell

KEYS = ["dataset", "model", "method"]
"""What tells the rows of a study's tables apart, besides seeds and metrics."""

_TEXT = (
    *(*KEYS, "metric", "truth", "prediction"),
    *("claim", "against", "direction", "verdict", "reason"),
    *("class", "group", "measure", "part"),
)


_COUNT = re.compile(r"\d{1,18}", re.ASCII)
_NUMBER = re.compile(r"[-+]?[\d.]+(e[-+]?\d+)?", re.IGNORECASE)


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    path.write_text(csv_text(frame), encoding="utf-8", newline="\n")


def csv_text(frame: pd.DataFrame) -> str:
    """Ten significant digits: all that a score means, and none of a machine's last bits."""
    return _changed(frame, inert_cell).to_csv(
        index=False, float_format="%.10g", lineterminator="\n"
    )


def read_csv(
    path: Path,
    text: Collection[str] = _TEXT,
    *,
    needs: Collection[str] = (),
    remedy: str | None = None,
) -> pd.DataFrame:
    """A table in a CSV file: text where a column holds names, numbers elsewhere.

    Args:
        text: the columns that hold names.
        needs: columns that have to be there.
        remedy: what to do about a broken file; see `reading`.

    Raises:
        PipelineError: when the file is missing, cut off, or a row or a number is none.
    """
    with reading(path, "CSV", remedy):
        content = path.read_text(encoding="utf-8")
        header, *_ = _checked_rows(content)
        if len(set(header)) < len(header) or "" in header:
            raise ValueError("expected a header of distinct names")
        # Names are text even where they read like a number or a missing value ("9", "null").
        numbers = [name for name in header if name not in text]
        frame = pd.read_csv(
            io.StringIO(content),
            dtype=dict.fromkeys(text, str),
            keep_default_na=False,
            na_values={name: [""] for name in numbers},
            float_precision="round_trip",
        )
        if list(frame.columns) != header:
            raise ValueError("expected UTF-8 without a mark before the header")
    if lacking := [name for name in needs if name not in header]:
        raise broken(path, f"has no column {lacking[0]!r}", remedy)
    for name in numbers:
        # A cell that is no number makes all of its column text.
        if not pd.api.types.is_numeric_dtype(frame[name]) and len(frame):
            cells = [str(cell) for cell in frame[name]]
            odd = next((cell for cell in cells if not _NUMBER.fullmatch(cell)), max(cells, key=len))
            raise broken(path, f"{name}: expected numbers, got {odd[:50]!r}", remedy)
    return _changed(frame, cell_as_it_was)


def _changed(frame: pd.DataFrame, change: Callable[[Any], Any]) -> pd.DataFrame:
    """The table with every text in it, and the heads of its columns, as `change` makes them."""
    text = frame.select_dtypes(exclude=["number", "bool"]).columns
    changed = {name: frame[name].map(change) for name in text}
    return frame.assign(**changed).rename(columns=change)


def read_confusion(path: Path, classes: Sequence[str], remedy: str | None = None) -> np.ndarray:
    """Pixel counts (K, K) int64 of a confusion.csv, rows truth, columns prediction.

    Raises:
        PipelineError: when the file is broken, or is not of these classes.
    """
    with reading(path, "CSV", remedy):
        head, *rows = _checked_rows(path.read_text(encoding="utf-8"))
    # By their places: a class may be called "truth" as the first column is.
    names = [[cell_as_it_was(cell) for cell in cells] for cells in (head, [row[0] for row in rows])]
    if names != [["truth", *classes], list(classes)]:
        raise broken(path, f"expected rows and columns {', '.join(classes)}", remedy)
    if not all(_COUNT.fullmatch(cell) for row in rows for cell in row[1:]):
        raise broken(path, "expected counts of pixels", remedy)
    return np.array([[int(cell) for cell in row[1:]] for row in rows], dtype=np.int64)


def _checked_rows(content: str) -> list[list[str]]:
    """Header and rows; ValueError where the table is cut off or its rows are not equally long."""
    if not content.endswith("\n"):
        raise ValueError("its last line has no end")
    rows = csv.reader(io.StringIO(content, newline=""), strict=True)
    header = next(rows)
    found = [header]
    for row in rows:
        # A blank line is none; pandas passes over it, and so over a single empty cell.
        if row and len(row) != len(header):
            raise ValueError(f"line {rows.line_num} has {len(row)} cells, expected {len(header)}")
        if row:
            found.append(row)
    return found
