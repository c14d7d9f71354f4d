"""How to reach the tracking store: its address, a client that gives up in time, and silence."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipelines.study import WORK
from pipelines.track.owner import home

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

DEFAULT_URI = "sqlite:///mlflow.db"
"""Where `mlflow ui`, started in the project root with no arguments, looks."""

_LOCK_SECONDS = 120
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # MLflow would wait for many minutes for a server that is down; work must not.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "PGCONNECT_TIMEOUT": "10",
}
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_NOISY = ("mlflow", "alembic", "sqlalchemy", "sqlalchemy.engine", "urllib3")


def tracking_uri() -> str:
    uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    file = _sqlite_file(uri)
    # DVC removes the temporary folder of an experiment with what is in it.
    return uri if file is None else uri.replace(str(file), str(home() / file), 1)


def shown_uri() -> str:
    """The tracking URI without a password."""
    uri = tracking_uri()
    password = urlsplit(uri).password
    return uri.replace(f":{password}@", ":***@") if password else uri


@contextmanager
def connection() -> Iterator[MlflowClient]:
    """A client of the store, which is created where it is new; one process at a time.

    The lock keeps processes that start together from migrating one sqlite file at once, and from
    creating one study's run twice. A store on a server is locked per project.
    """
    from filelock import FileLock

    uri = tracking_uri()
    file = _sqlite_file(uri)
    lock = WORK / "track.lock" if file is None else Path(f"{file}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with quiet(), FileLock(lock, timeout=_LOCK_SECONDS):
        if file is not None and not file.exists():
            _create(file)
        yield _client(uri)


@contextmanager
def quiet() -> Iterator[None]:
    """MLflow's settings for this block, where the user has none, and none of its chatter.

    What goes wrong arrives as an exception; the log lines that announce it beforehand are noise.
    """
    added = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(added)
    levels: dict[logging.Logger, int] = {}
    try:
        # It sets up its loggers when it is imported.
        import mlflow.tracking  # noqa: F401

        for logger in map(logging.getLogger, _NOISY):
            levels[logger] = logger.level
            logger.setLevel(logging.CRITICAL + 1)
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
        for name in added:
            os.environ.pop(name, None)


def artifact_folder(experiment: str) -> str | None:
    """Where a new experiment keeps its files; None where the store decides.

    Beside a sqlite file, which several checkouts may share: MLflow would keep them in the folder of
    whoever comes first, with whom they would go.
    """
    file = sqlite_file()
    return None if file is None else str(file.resolve().parent / "mlruns" / experiment)


def sqlite_file() -> Path | None:
    """The store, where it is a sqlite file."""
    return _sqlite_file(tracking_uri())


def _sqlite_file(uri: str) -> Path | None:
    if not uri.startswith("sqlite:///"):
        return None
    return Path(uri.removeprefix("sqlite:///").partition("?")[0])


def _create(file: Path) -> None:
    """A new sqlite store, whole or not at all: MLflow cannot go on with half of its tables."""
    new = Path(f"{file}.new")
    for leftover in (new, Path(f"{new}-journal")):
        leftover.unlink(missing_ok=True)
    _client(f"sqlite:///{new}")
    new.replace(file)


def _client(uri: str) -> MlflowClient:
    """A client of a store that has answered once."""
    import sqlalchemy
    from mlflow.tracking import MlflowClient

    if urlsplit(uri).scheme.partition("+")[0] in _DATABASES:
        # MLflow would go on for minutes to try a database that cannot be opened.
        engine = sqlalchemy.create_engine(uri)
        engine.connect().close()
        engine.dispose()
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.search_experiments(max_results=1)
    return client
