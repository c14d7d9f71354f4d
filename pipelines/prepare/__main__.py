"""Prepare data sets: `python -m pipelines.prepare`."""

from __future__ import annotations

import sys

from pipelines.base.errors import PipelineError
from pipelines.prepare import stage
from pipelines.prepare.stage import prepare
from pipelines.prepare.summary import summary
from pipelines.running.cli import chosen_datasets, guarded, stage_parser
from pipelines.study import made


def main(argv: list[str] | None = None) -> int:
    parser = stage_parser("prepare", stage.__doc__, datasets=True, verify=True)
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="processes that read and write (default: all CPUs)"
    )
    args = parser.parse_args(argv)

    def command() -> None:
        if args.jobs is not None and args.jobs < 1:
            raise PipelineError(f"--jobs {args.jobs}: expected 1 or more")
        for dataset in chosen_datasets(args):
            prepare(dataset, args.jobs)
            print(f"prepared {dataset.name} in {dataset.prepared}")
            for line in summary(made.info(dataset)):
                print(f"  {line}")

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
