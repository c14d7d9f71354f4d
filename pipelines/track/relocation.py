"""A sqlite store that was moved or copied together with the files beside it.

MLflow keeps absolute paths: it would go on to write into the folder of before, of a copy into that
of the original, and show no file of what came along. It has no command to change them.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def follow(store: Path, before: str, now: str) -> None:
    """Let the store say `now` where it says `before`, of an experiment's folder and all below it.

    Raises:
        sqlite3.Error: when it cannot; then it says `before` everywhere.
    """
    with contextlib.closing(sqlite3.connect(store, timeout=60)) as connection, connection:
        for table, column in _COLUMNS:
            connection.execute(
                f"UPDATE {table} SET {column} = :now || substr({column}, length(:before) + 1) "
                f"WHERE {column} = :before "
                f"OR substr({column}, 1, length(:before) + 1) = :before || '/'",
                {"now": now, "before": before},
            )
