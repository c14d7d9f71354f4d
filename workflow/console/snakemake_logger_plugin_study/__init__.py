"""`snakemake --logger study`: a study's progress instead of Snakemake's own lines.

Snakemake finds logger plugins by the name of a package on the module path; `workflow/alone.py` puts
this folder there. What is shown is `pipelines.drivers.console`; a dry run is shown by Snakemake.
"""

from __future__ import annotations

import logging
import sys

from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter
from snakemake_interface_logger_plugins.base import LogHandlerBase

from pipelines.drivers.console import Console


class LogHandler(LogHandlerBase):
    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        given = self.common_settings
        self._plan = ColorizingTextHandler(
            nocolor=given.nocolor,
            stream=sys.stdout if given.stdout else sys.stderr,
            formatter=DefaultFormatter(given.quiet, given.show_failed_logs),
            filter=DefaultFilter(
                given.quiet, given.debug_dag, given.verbose, given.dryrun, given.printshellcmds
            ),
        )
        self._console = Console(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self.common_settings.dryrun:
                self._plan.handle(record)
            else:
                self._console.show(record)
        except Exception:
            self.handleError(record)  # prints the traceback; the work itself goes on

    def close(self) -> None:
        self._console.close()
        super().close()
