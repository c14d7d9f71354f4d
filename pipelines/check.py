"""Check a whole study before any work is done: files, keys, models, plug-ins and their options.

Snakemake calls this before its first job; it takes seconds, most of them to import mmsegmentation.
"""

from __future__ import annotations

import sys

from pipelines.compare.claims import ALPHA, smallest_adjusted_p
from pipelines.running.cli import guarded, stage_parser
from pipelines.study import Study


def check(study: Study) -> None:
    """Build every model config of the study, with and without its plug-ins.

    Raises:
        PipelineError: naming the file and key of the first thing that is wrong.
    """
    from mmseg.utils import register_all_modules

    from pipelines.configs.model import trained_model

    register_all_modules()
    for run in {(run.dataset.name, run.model, run.method): run for run in study.runs}.values():
        trained_model(run)


def undecidable(study: Study) -> list[str]:
    """A warning for each claim that has too few seeds to be decided, whatever the runs give."""
    tests = zip(study.claims, smallest_adjusted_p(study), strict=True)
    return [
        f"{study.path}: claims.{claimed.name}: {len(claimed.seeds)} paired seeds are too few: over "
        f"the study's {len(study.claims)} tests Holm's p is never below {p:.4f}; give it more "
        "seeds or the study fewer claims"
        for claimed, p in tests
        if p > ALPHA
    ]


def main(argv: list[str] | None = None) -> int:
    args = stage_parser("check", __doc__).parse_args(argv)

    def command() -> None:
        study = Study.load(args.study)
        check(study)
        for warning in undecidable(study):
            print(f"warning: {warning}", file=sys.stderr)
        print(f"{study.reference}: {len(study.runs)} runs, all of them can be built")

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
