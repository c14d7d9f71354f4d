"""Show a study in MLflow: `python -m pipelines.track`."""

from __future__ import annotations

import sys

from pipelines.running.cli import guarded, stage_parser
from pipelines.study import Study
from pipelines.track import stage
from pipelines.track.links import comparison_url, open_page
from pipelines.track.stage import init
from pipelines.track.sync import attempt


def main(argv: list[str] | None = None) -> int:
    parser = stage_parser("track", stage.__doc__, runs=True)
    parser.add_argument("--init", action="store_true", help="create the store, send nothing")
    parser.add_argument("--open", action="store_true", help="open the comparison in a browser")
    args = parser.parse_args(argv)
    complete = False

    def command() -> None:
        nonlocal complete
        if args.init:
            complete = init()
            return
        study = Study.load(args.study)
        run = None if args.run is None else study.run(args.run)
        shown = attempt(study, run, register=run is None)
        complete = shown is not None
        if shown is None:
            return
        total = len(study.runs) if run is None else 1
        url = comparison_url(shown.experiment, shown.owner)
        print(
            f"{len(shown.runs)} of {total} runs of study {study.name} are in MLflow; "
            f"mlflow ui shows them at {url}"
        )
        if shown.without_weights:
            print(
                "without a model in the registry, since a restored run keeps no weights: "
                + ", ".join(shown.without_weights)
            )
        if args.open:
            open_page(url, shown.experiment, study.name)

    return guarded(command) or (0 if complete else 3)


if __name__ == "__main__":
    sys.exit(main())
