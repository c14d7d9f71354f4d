"""Analyse what a study's runs learned: `python -m pipelines.analyse`."""

from __future__ import annotations

import sys

from pipelines.analyse import stage
from pipelines.analyse.stage import analyse
from pipelines.running.cli import guarded, stage_parser
from pipelines.study import Study


def main(argv: list[str] | None = None) -> int:
    args = stage_parser("analyse", stage.__doc__).parse_args(argv)

    def command() -> None:
        study = Study.load(args.study)
        analyse(study)
        print(f"analysed {len(study.runs)} runs in {study.folder('analyse')}")

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
