"""Show a study in MLflow: bring the tracking store to what the local files say.

Local files are the truth and MLflow is a view of them: this may run at any time, again and again,
and sends what is missing. An experiment is a study; in it, one run is the comparison and below it
is one for each training. The store is MLFLOW_TRACKING_URI, or sqlite:///mlflow.db in the project
root, where `mlflow ui` without arguments looks.

Exit status: 0 when the store holds all there is, 2 for a wrong argument, 3 when something could not
be sent.
"""

from __future__ import annotations

import logging
import shlex
import sys
from dataclasses import dataclass

from pipelines.cli import guarded, stage_parser
from pipelines.errors import PipelineError
from pipelines.study import Run, Study
from pipelines.tracking import store
from pipelines.tracking.view import RUN_KEY, STUDY_KEY, View, note, run_view, study_view

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shown:
    """What a sync left in the store."""

    runs: int
    url: str


def init() -> bool:
    """Create the store; worth doing once before work in parallel. False after a warning."""
    try:
        with store.connection():
            return True
    except Exception as error:
        _warn("the tracking store is not there", error, "python -m pipelines.track --init")
        return False


def push(study: Study, run: Run | None = None) -> bool:
    """Send `run`, or the whole study, to the tracking store as well as it can be done.

    For the end of other stages: it never raises. What could not be sent is one warning in the log,
    with the reason and the command that sends it later.

    Returns:
        Whether the store now holds all that the local files say.
    """
    return _push(study, run) is not None


def _push(study: Study, run: Run | None) -> Shown | None:
    try:
        shown, unreadable = _sync(study, run)
        if unreadable:
            raise PipelineError("; ".join(unreadable))
        return shown
    # Whatever it is, a full disk or an MLflow that does not import, the work itself is done and
    # must not fail for it.
    except Exception as error:
        what = f"study {study.name}" if run is None else f"run {run.name} of study {study.name}"
        _warn(f"{what} is not all sent", error, _command(study, run))
        return None


def _sync(study: Study, run: Run | None) -> tuple[Shown, list[str]]:
    """Sync; also says which runs' files could not be read, after all others are sent."""
    views: list[View] = []
    unreadable = []
    for item in study.runs if run is None else [run]:
        try:
            view = run_view(item)
        except PipelineError as error:
            unreadable.append(str(error))
            continue
        if view is not None:
            views.append(view)
    with store.connection() as client:
        experiment = store.open_experiment(client, study.name, note(study, table=False))
        index = store.find_records(client, experiment, (RUN_KEY, STUDY_KEY))
        known = index.get((STUDY_KEY, study.name))
        if run is None or known is None:
            parent = store.bring(client, experiment, index, study_view(study))
            store.adopt(client, index, parent)
        else:
            # The comparison waits for the study's own sync: it changes when all runs are there.
            parent = known.info.run_id
        for view in views:
            store.bring(client, experiment, index, view, parent)
    return Shown(len(views), store.comparison_url(experiment)), unreadable


def _warn(what: str, error: Exception, command: str) -> None:
    uri = store.shown_uri()
    reason = _reason(error).replace(store.tracking_uri(), uri)
    _log.warning("MLflow (%s): %s: %s. Send it with: %s", uri, what, reason, command)


def _reason(error: BaseException) -> str:
    """One line: what `error` says, and at its root, which MLflow's messages bury or leave out."""
    root = error
    while root.__cause__ or root.__context__:
        root = root.__cause__ or root.__context__
    first, last = (" ".join(str(e).split()) or type(e).__name__ for e in (error, root))
    first = first if len(first) <= 200 else f"{first[:200]} ..."
    return first if last in first else f"{first}: {last[:200]}"


def _command(study: Study, run: Run | None) -> str:
    words = ["python", "-m", "pipelines.track", "--study", study.argument]
    return shlex.join(words if run is None else [*words, "--run", run.name])


def main(argv: list[str] | None = None) -> int:
    parser = stage_parser(__doc__, runs=True)
    parser.add_argument("--init", action="store_true", help="create the store, send nothing")
    args = parser.parse_args(argv)
    complete = False

    def command() -> None:
        nonlocal complete
        if args.init:
            complete = init()
            return
        study = Study.load(args.study)
        run = None if args.run is None else study.run(args.run)
        shown = _push(study, run)
        complete = shown is not None
        if shown is not None:
            total = len(study.runs) if run is None else 1
            print(
                f"{shown.runs} of {total} runs of study {study.name} are in MLflow; "
                f"mlflow ui shows them at {shown.url}"
            )

    return guarded(command) or (0 if complete else 3)


if __name__ == "__main__":
    sys.exit(main())
