"""Compare the methods of a study: `python -m pipelines.compare`."""

from __future__ import annotations

import sys

from pipelines.compare import stage
from pipelines.compare.stage import compare
from pipelines.running.cli import guarded, stage_parser
from pipelines.study import Study


def main(argv: list[str] | None = None) -> int:
    args = stage_parser("compare", stage.__doc__).parse_args(argv)

    def command() -> None:
        study = Study.load(args.study)
        compare(study)
        print(f"compared {len(study.runs)} runs in {study.folder('compare')}")

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
