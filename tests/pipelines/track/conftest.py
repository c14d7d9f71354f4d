"""An empty project with an empty store, or none, for each test."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pipelines.track import connection, push
from tests.pipelines.track.servers import command, project_environment

pytest.importorskip("mlflow")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project root as the working directory, and no setting of the user's."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "DVC_"))]:
        monkeypatch.delenv(name)
    # MLflow keeps one connection for each URI, which a relative one would lead to another folder.
    monkeypatch.setattr(connection, "DEFAULT_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(push, "_warned", set())
    return tmp_path


@pytest.fixture(scope="session")
def fresh_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new sqlite store: creating one takes seconds, copying it does not."""
    folder = tmp_path_factory.mktemp("store")
    environment = {k: v for k, v in project_environment().items() if not k.startswith("MLFLOW_")}
    done = subprocess.run(command("--init"), cwd=folder, env=environment)
    assert done.returncode == 0
    return folder / "mlflow.db"


@pytest.fixture
def empty_store(project: Path, fresh_store: Path) -> None:
    shutil.copy(fresh_store, project / "mlflow.db")
