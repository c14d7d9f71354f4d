"""Publish a study, or check what is published: `python -m pipelines.publish`."""

from __future__ import annotations

import sys

from pipelines.base import locks
from pipelines.publish import stage, verify
from pipelines.publish.stage import publish, publish_incomplete, seal
from pipelines.running.cli import guarded, stage_parser
from pipelines.study import REPORTS, Study


def main(argv: list[str] | None = None) -> int:
    parser = stage_parser("publish", stage.__doc__, verify=True)
    parser.add_argument(
        "--incomplete",
        action="store_true",
        help="publish the runs that are finished, though others are missing; nothing is judged",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; fail when what is published, of any study, does not follow from the "
        "published runs",
    )
    parser.add_argument(
        "--seal",
        action="store_true",
        help="check a study that was published without a manifest, and write its manifest",
    )
    args = parser.parse_args(argv)

    def command() -> None:
        if args.check:
            print(verify.verify())
        elif args.seal:
            with locks.held(verify.LOCK):
                seal(args.study)
            print(f"sealed {REPORTS / args.study}")
        else:
            study = Study.load(args.study)
            missing = publish_incomplete(study) if args.incomplete else []
            if not args.incomplete:
                publish(study)
            print(f"published {study.name} in {study.published}")
            if missing:
                print(f"incomplete: {len(missing)} of {len(study.runs)} runs are missing")

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
