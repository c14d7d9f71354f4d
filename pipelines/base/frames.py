"""Tables as CSV: equal tables give equal bytes, and come back as they were."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

KEYS = ["dataset", "model", "method"]
"""What tells the rows of a study's tables apart, besides seeds and metrics."""

_TEXT = [
    *(*KEYS, "metric", "truth", "prediction"),
    *("claim", "against", "direction", "verdict", "reason"),
    *("class", "group", "measure", "part"),
]


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    path.write_text(csv_text(frame), encoding="utf-8", newline="\n")


def csv_text(frame: pd.DataFrame) -> str:
    """Ten significant digits: all that a score means, and none of a machine's last bits."""
    return frame.to_csv(index=False, float_format="%.10g", lineterminator="\n")


def read_csv(path: Path) -> pd.DataFrame:
    """What `write_csv` wrote: text where a column holds names, numbers elsewhere."""
    # Names are text even where they read like a number or a missing value ("9", "null").
    numbers = pd.read_csv(path, nrows=0).columns.difference(_TEXT)
    return pd.read_csv(
        path,
        dtype=dict.fromkeys(_TEXT, str),
        keep_default_na=False,
        na_values={name: [""] for name in numbers},
        float_precision="round_trip",
    )
