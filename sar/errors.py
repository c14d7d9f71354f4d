"""The exception that a user of the commands is meant to read."""

from __future__ import annotations


class SarError(ValueError):
    """Bad input, which only the user can mend: the message names the file and what was expected.

    The commands print it without a traceback and exit with status 2.
    """
