"""Printing to terminals whose encoding lacks a character."""

from __future__ import annotations

import codecs
import io
import sys

_PLAIN = {
    **{"±": "+-", "×": "x", "→": "->", "≤": "<=", "≥": ">=", "…": "..."},
    **dict.fromkeys("–—−", "-"),
}


def print_anywhere() -> None:
    """From now on a character that standard output cannot show is printed by plain ones, or as `?`.

    Without it, Python ends with an error in the middle of a table.
    """
    codecs.register_error("plain", _plain)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    unknown = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in unknown), error.end
