"""Check a whole study before any work is done: files, keys, models, plug-ins and their options.

Snakemake calls this before its first job; it takes seconds, most of them to import mmsegmentation.
"""

from __future__ import annotations

import sys

from pipelines.cli import guarded, stage_parser
from pipelines.study import Study


def check(study: Study) -> None:
    """Build every model config of the study, with and without its plug-ins.

    Raises:
        PipelineError: naming the file and key of the first thing that is wrong.
    """
    from mmseg.utils import register_all_modules

    from pipelines.config import trained_model

    register_all_modules()
    for run in {(run.dataset.name, run.model, run.method): run for run in study.runs}.values():
        trained_model(run)


def main(argv: list[str] | None = None) -> int:
    args = stage_parser(__doc__).parse_args(argv)

    def command() -> None:
        study = Study.load(args.study)
        check(study)
        print(f"{study.reference}: {len(study.runs)} runs, all of them can be built")

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
