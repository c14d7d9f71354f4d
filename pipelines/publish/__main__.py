"""Publish a study, or check what is published: `python -m pipelines.publish`."""

from __future__ import annotations

import sys

from pipelines.publish import stage, verify
from pipelines.publish.stage import publish, seal
from pipelines.running.cli import guarded, stage_parser
from pipelines.study import REPORTS, Study


def main(argv: list[str] | None = None) -> int:
    parser = stage_parser("publish", stage.__doc__)
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
            seal(args.study)
            print(f"sealed {REPORTS / args.study}")
        else:
            study = Study.load(args.study)
            publish(study)
            print(f"published {study.name} in {study.published}")

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
