"""Report on a study: `python -m pipelines.report`."""

from __future__ import annotations

import sys

from pipelines.base.reading import read_text
from pipelines.report import stage
from pipelines.report.stage import partial_folder, report, report_partial, show
from pipelines.running.cli import guarded, stage_parser
from pipelines.study import Study


def main(argv: list[str] | None = None) -> int:
    parser = stage_parser("report", stage.__doc__, verify=True)
    parser.add_argument(
        "--partial",
        action="store_true",
        help="report on the runs that are finished, into work/<study>/report-partial",
    )
    parser.add_argument(
        "--show", action="store_true", help="print the finished report's table; write nothing"
    )
    args = parser.parse_args(argv)

    def command() -> None:
        study = Study.load(args.study)
        if args.show:
            show(study)
            return
        if args.partial:
            missing, folder = report_partial(study), partial_folder(study)
        else:
            report(study)
            missing, folder = [], study.folder("report")
        print(read_text(folder / "table.md"))
        for run in missing:
            print(f"missing: {run.name}", file=sys.stderr)
        print(f"report: {folder / 'index.html'}")

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
