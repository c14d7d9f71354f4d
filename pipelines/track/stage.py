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

from pipelines.track.connection import connection
from pipelines.track.sync import warn


def init() -> bool:
    """Create the store; worth doing once before work in parallel. False after a warning."""
    try:
        with connection():
            return True
    # As in `sync.attempt`.
    except Exception as error:
        warn("the tracking store is not there", error, "python -m pipelines.track --init")
        return False
