"""Show a study in MLflow: bring the tracking store to what the local files say.

Local files are the truth and MLflow is a view of them: this may run at any time, again and again,
and sends what is missing. An experiment is a study; in it, one run is the comparison and below it
is one for each training. The weights of the lowest seed of each method are registered as models.
The store is MLFLOW_TRACKING_URI, or sqlite:///mlflow.db in the project root, where `mlflow ui`
without arguments looks.

Exit status: 0 when the store holds all there is, 2 for a wrong argument, 3 when something could not
be sent.
"""

from __future__ import annotations

import sys

from pipelines.cli import guarded, stage_parser
from pipelines.study import Study
from pipelines.tracking.connection import connection
from pipelines.tracking.links import comparison_url, open_page
from pipelines.tracking.push import push
from pipelines.tracking.sync import attempt, warn

__all__ = ["init", "main", "push"]


def init() -> bool:
    """Create the store; worth doing once before work in parallel. False after a warning."""
    try:
        with connection():
            return True
    # As in `sync.attempt`.
    except Exception as error:
        warn("the tracking store is not there", error, "python -m pipelines.track --init")
        return False


def main(argv: list[str] | None = None) -> int:
    parser = stage_parser(__doc__, runs=True)
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
        url = comparison_url(shown.experiment)
        print(
            f"{len(shown.runs)} of {total} runs of study {study.name} are in MLflow; "
            f"mlflow ui shows them at {url}"
        )
        if args.open:
            open_page(url, shown.experiment, study.name)

    return guarded(command) or (0 if complete else 3)


if __name__ == "__main__":
    sys.exit(main())
