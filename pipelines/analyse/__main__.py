"""Analyse what a study's runs learned: `python -m pipelines.analyse`."""

from __future__ import annotations

import sys

from pipelines.analyse import stage
from pipelines.analyse.stage import analyse
from pipelines.running.cli import study_command
from pipelines.study import Study


def main(argv: list[str] | None = None) -> int:
    def work(study: Study) -> str:
        analyse(study)
        return f"analysed {len(study.runs)} runs in {study.folder('analyse')}"

    return study_command("analyse", stage.__doc__, work, argv, verify=True)


if __name__ == "__main__":
    sys.exit(main())
