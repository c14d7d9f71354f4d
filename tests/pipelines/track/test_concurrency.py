"""Eight processes that log eight runs at once lose no point."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pipelines.study import Study
from pipelines.track.owner import OWNER_KEY, owner
from pipelines.track.sync import sync
from tests.pipelines.track.glyphs import fabricate, fake_run
from tests.pipelines.track.servers import (
    command,
    mlflow_server,
    postgres,
    project_environment,
)
from tests.pipelines.track.stores import assert_all_shown, assert_shown, records

pytestmark = pytest.mark.slow


@pytest.fixture
def study() -> Study:
    study = fabricate([0, 1, 2, 3])
    for run in study.runs:
        fake_run(run, points=200)
    return study


def send_at_once(folders: list[Path], study: Study) -> None:
    """Each run from a process of its own, in its folder."""
    processes = [
        subprocess.Popen(
            command("--study", "mini", "--run", run.name),
            cwd=folder,
            env=project_environment(),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for run, folder in zip(study.runs, folders, strict=True)
    ]
    errors = [process.communicate(timeout=580)[1] for process in processes]
    assert not any(errors), "".join(errors)


def test_the_default_store_which_is_not_there_yet(study, project):
    assert len(study.runs) == 8
    assert not Path("mlflow.db").exists()
    send_at_once([project] * 8, study)
    assert_all_shown(study)


def test_a_server_with_postgres_and_eight_machines(study, project, monkeypatch):
    """Each process in a folder of its own, with the id of one checkout: no lock of ours keeps them
    apart, as on nodes that mount one folder."""
    folders = []
    key = owner().key
    known = json.loads(Path("work/checkout.json").read_text())
    for number in range(8):
        folders.append(project / f"machine{number}")
        for part in ("params", "data", "results"):
            shutil.copytree(project / part, folders[-1] / part)
        own = {"path": str(folders[-1]), "inode": folders[-1].stat().st_ino}
        (folders[-1] / "work").mkdir()
        (folders[-1] / "work/checkout.json").write_text(json.dumps(known | own))
    with (
        postgres() as database,
        mlflow_server("server", "--backend-store-uri", database) as server,
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
        send_at_once(folders, study)
        # The comparison may be there more than once, until the next sync.
        ids = {name: r.info.run_id for name, r in _runs().items()}
        for run in study.runs:
            assert_shown(run, _runs()[run.name])
            assert _runs()[run.name].data.tags[OWNER_KEY] == key
        sync(study)
        assert_all_shown(study)
        assert {name: records()[name].info.run_id for name in ids} == ids
        parent = records()["mini: comparison"].info.run_id
        children = [r for name, r in records().items() if name != "mini: comparison"]
        assert {r.data.tags["mlflow.parentRunId"] for r in children} == {parent}
    assert not os.path.exists("mlflow.db")


def _runs() -> dict[str, object]:
    from tests.pipelines.track.stores import client

    experiment = client().get_experiment_by_name("mini")
    found = client().search_runs([experiment.experiment_id], "tags.`sar.run` LIKE '%'")
    assert len(found) == 8
    return {record.data.tags["sar.run"]: record for record in found}
