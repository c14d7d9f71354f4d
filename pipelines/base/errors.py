"""The one exception that a user of the commands is meant to read."""

from __future__ import annotations


class PipelineError(Exception):
    """Bad input or a state that only the user can mend.

    Its message names the file, key or argument and what was expected; the commands print it as one
    line, without a traceback, and exit with status 2.
    """
