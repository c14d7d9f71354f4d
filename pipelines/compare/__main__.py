"""Compare the methods of a study: `python -m pipelines.compare`."""

from __future__ import annotations

import sys

from pipelines.compare import stage
from pipelines.compare.stage import compare
from pipelines.running.cli import study_command
from pipelines.study import Study


def main(argv: list[str] | None = None) -> int:
    def work(study: Study) -> str:
        compare(study)
        return f"compared {len(study.runs)} runs in {study.folder('compare')}"

    return study_command("compare", stage.__doc__, work, argv, verify=True)


if __name__ == "__main__":
    sys.exit(main())
