"""Nobody's run is anybody else's: clones, copies and DVC's experiments that share a store."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.base.errors import PipelineError
from pipelines.track import connection
from pipelines.track import owner as owner_module
from pipelines.track.owner import OWNER_KEY, home, owner
from pipelines.track.sync import sync
from tests.pipelines.track.glyphs import fabricate, fake_run, finished
from tests.pipelines.track.servers import mlflow_server, project_environment
from tests.pipelines.track.stores import client

FILE = Path("work/checkout.json")


def at(folder: Path, monkeypatch) -> str:
    """The owner's key in a folder."""
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    return owner().key


def test_a_checkout_keeps_its_id_where_it_is_moved_and_a_copy_gets_its_own(project, monkeypatch):
    first = at(project / "first", monkeypatch)
    assert owner().key == first
    (project / "first").rename(project / "moved")
    # Both are used for the first time after it, the copy before the original.
    shutil.copytree(project / "moved", project / "first", symlinks=True)
    copy = at(project / "first", monkeypatch)
    assert copy != first
    assert at(project / "moved", monkeypatch) == first
    assert at(project / "first", monkeypatch) == copy
    assert at(project / "clone", monkeypatch) not in (first, copy)


@pytest.mark.parametrize(
    ("facts", "stays"),
    [
        # A move to another disk; the old folder is gone.
        ({"path": "/gone", "device": -1, "inode": -1}, True),
        # The same disk on another node of a cluster, in a container, or after a restart.
        ({"device": -1, "machine": "node2"}, True),
        ({"path": "/gone", "device": -1, "machine": "node2"}, True),
        # A copy on another machine, at the same place or another one.
        ({"device": -1, "inode": -1, "machine": "node2"}, False),
        ({"path": "/gone", "inode": -1, "machine": "node2"}, False),
        # A copy on the same disk whose original is gone, or took another copy's place.
        ({"path": "/gone", "inode": -1}, False),
        ({"inode": -1}, False),
    ],
)
def test_what_is_a_move_and_what_a_copy(facts, stays):
    first = owner().key
    FILE.write_text(json.dumps(json.loads(FILE.read_text()) | facts))
    assert (owner().key == first) == stays


def test_a_copy_on_another_disk_is_one_though_its_inode_be_the_same(project, monkeypatch):
    first = at(project / "first", monkeypatch)
    shutil.copytree(project / "first", project / "second")
    inode = (project / "second").stat().st_ino
    facts = json.loads((project / "second" / FILE).read_text()) | {"device": -1, "inode": inode}
    (project / "second" / FILE).write_text(json.dumps(facts))
    assert at(project / "second", monkeypatch) != first


@pytest.mark.parametrize("text", ["", "[]", '{"id": "x"}', "{"])
def test_a_damaged_id_is_named_with_its_remedy(text):
    FILE.parent.mkdir()
    FILE.write_text(text)
    with pytest.raises(PipelineError, match=r"work/checkout.json: (is damaged|not valid JSON)"):
        owner()


def test_the_user_has_a_name_or_else_a_number(monkeypatch):
    assert owner().user == getpass.getuser()
    monkeypatch.setattr(owner_module.getpass, "getuser", lambda: {}["no such user"])
    assert owner().user == str(os.getuid())


def test_an_experiment_of_dvc_is_another_owner_of_the_same_checkout(project, monkeypatch):
    first = at(project / "first", monkeypatch)
    monkeypatch.setattr(connection, "DEFAULT_URI", "sqlite:///mlflow.db")
    assert connection.tracking_uri() == "sqlite:///mlflow.db"
    monkeypatch.setenv("DVC_EXP_NAME", "it's-1.5")
    monkeypatch.setenv("DVC_ROOT", str(project / "first"))
    experiment = f"{first}-it_s-1_5"
    assert owner().key == experiment and home() == Path()
    copy = project / "first/.dvc/tmp/exps/standalone/tmp1a2b"
    (copy / ".dvc").mkdir(parents=True)
    assert at(copy, monkeypatch) == experiment
    assert owner().titled("sar/seed0") == "sar/seed0 (it's-1.5)"
    assert home() == project / "first" and not FILE.exists()
    # MLflow asks for four slashes before an absolute path.
    assert connection.tracking_uri() == f"sqlite:///{project}/first/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////team/store.db")
    assert connection.tracking_uri() == "sqlite:////team/store.db"
    # The project may lie in a folder of the repository.
    monkeypatch.setenv("DVC_ROOT", str(project))
    inner = project / ".dvc/tmp/exps/tmp3c4d/first"
    inner.mkdir(parents=True)
    (inner.parent / ".dvc").mkdir()
    assert at(inner, monkeypatch) == experiment
    assert home() == project / "first"
    # `dvc repro` says where it is, and is no experiment.
    monkeypatch.delenv("DVC_EXP_NAME")
    assert home() == Path()


def shown(name: str = "mini") -> dict[str, dict[str, object]]:
    """{owner: {run's name: record}} of an experiment, without what is marked as deleted."""
    experiment = client().get_experiment_by_name(name)
    by_owner: dict[str, dict[str, object]] = {}
    for record in client().search_runs([experiment.experiment_id]):
        tags = record.data.tags
        by_owner.setdefault(tags[OWNER_KEY], {})[tags.get("sar.run", "comparison")] = record
    return by_owner


def ids(records: dict) -> dict[str, str]:
    return {name: record.info.run_id for name, record in records.items()}


@pytest.fixture(params=["a file", "a server"])
def shared_store(request, project, fresh_store, monkeypatch):
    """A store that several checkouts use."""
    (project / "team").mkdir()
    shutil.copy(fresh_store, project / "team/mlflow.db")
    uri = f"sqlite:///{project}/team/mlflow.db"
    if request.param == "a file":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        yield
        return
    with mlflow_server("server", "--backend-store-uri", uri) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
        yield


def test_two_checkouts_on_one_store_change_their_own_runs_only(project, shared_store, monkeypatch):
    model = "mini.glyphs.tiny"

    def synced(name: str, lr: float) -> str:
        key = at(project / name, monkeypatch)
        study = fabricate([0], lr)
        for run in study.runs:
            fake_run(run)
        sync(study, study.runs[0])
        sync(study, register=True)
        return key

    def versions() -> dict[str, str]:
        """By number, who made each version."""
        found = client().search_model_versions(f"name = '{model}'")
        return {str(version.version): version.tags[OWNER_KEY] for version in found}

    first = synced("first", 0.05)
    of_first, aliases = ids(shown()[first]), client().get_registered_model(model).aliases
    second = synced("second", 0.02)
    of_second = ids(shown()[second])
    assert set(shown()) == {first, second}
    assert ids(shown()[first]) == of_first and len(of_second) == 3
    for key, lr in ((first, "0.05"), (second, "0.02")):
        record = shown()[key]["glyphs/tiny/sar/seed0"]
        assert record.data.params["training.optimizer.lr"] == lr
        assert record.data.tags["mlflow.user"] == record.info.user_id == getpass.getuser()
        parent = ids(shown()[key])["comparison"]
        assert record.data.tags["mlflow.parentRunId"] == parent
    assert sorted(versions().values()) == sorted([first, first, second, second])

    # Each replaces its own when it trains again, and only those.
    assert synced("second", 0.03) == second
    assert ids(shown()[first]) == of_first
    assert not set(ids(shown()[second]).values()) & {
        run for name, run in of_second.items() if name != "comparison"
    }
    assert sorted(versions().values()) == sorted([first, first, second, second])
    now = client().get_registered_model(model).aliases
    assert {name: now[name] for name in aliases} == aliases
    assert set(now) == {*aliases, f"baseline-{second}", f"sar-{second}"}
    assert {versions()[str(now[f"{method}-{second}"])] for method in aliases} == {second}


@pytest.mark.parametrize("copied", [False, True])
def test_files_of_a_store_that_was_moved_or_copied_lie_beside_it(
    project, fresh_store, monkeypatch, copied
):
    monkeypatch.chdir(at_new(project / "first", fresh_store, monkeypatch))
    study = finished([0])
    sync(study, register=True)
    key = owner().key
    before = ids(shown()[key])
    here = project / "a second one" / "é"
    here.parent.mkdir()
    if copied:
        shutil.copytree(project / "first", here)
    else:
        (project / "first").rename(here)
    files = sorted((project / "first").rglob("*"))
    monkeypatch.chdir(here)
    monkeypatch.setattr(connection, "DEFAULT_URI", f"sqlite:///{here}/mlflow.db")
    fake_run(study.runs[0], shift=0.5)
    sync(study, register=True)
    assert sorted((project / "first").rglob("*")) == files
    mine = shown()[owner().key]
    assert (owner().key != key) == copied
    for record in [*shown()[key].values(), *mine.values()]:
        assert record.info.artifact_uri.startswith(f"{here}/mlruns/mini/")
        assert client().list_artifacts(record.info.run_id), record.data.tags
    same = "glyphs/tiny/sar/seed0"
    assert (mine[same].info.run_id == before[same]) != copied
    version = client().get_model_version_by_alias("mini.glyphs.tiny", "sar")
    assert Path(client().get_model_version_download_uri(version.name, version.version)).is_dir()


def at_new(folder: Path, fresh_store: Path, monkeypatch) -> Path:
    """A new folder with a store of its own."""
    folder.mkdir()
    shutil.copy(fresh_store, folder / "mlflow.db")
    monkeypatch.setattr(connection, "DEFAULT_URI", f"sqlite:///{folder}/mlflow.db")
    return folder


def test_runs_without_an_owner_are_nobodys_to_delete(fresh_store, project):
    shutil.copy(fresh_store, project / "mlflow.db")
    study = finished([0])
    experiment = client().create_experiment("mini")
    tags = {"sar.run": study.runs[0].name, "sar.part.train": "0" * 64}
    strangers = [client().create_run(experiment, tags=tags).info.run_id for _ in range(2)]
    sync(study)
    assert {client().get_run(run).info.lifecycle_stage for run in strangers} == {"active"}


EXPERIMENT = """
import sys
from pathlib import Path
from pipelines.study import Study
from tests.pipelines.track.glyphs import fake_run
from pipelines.track.__main__ import main

study = Study.load("mini")
for run in study.runs:
    fake_run(run)
# As the end of a stage does, and as a person may.
sys.exit(main(["--study", "mini", "--run", study.runs[0].name]) or main(["--study", "mini"]))
"""

DVC_YAML = """
stages:
  train:
    cmd: python train.py
    params:
      - params/studies/mini.yaml:
    deps: [train.py, data]
    outs: [results]
"""


@pytest.mark.slow
def test_experiments_of_dvc_keep_their_runs_apart_and_all_of_them(
    project, fresh_store, monkeypatch
):
    # A letter outside ASCII would be too much for DVC, which writes the path into a config.
    folder = project / "My Projects"
    folder.mkdir()
    monkeypatch.chdir(folder)
    environment = project_environment() | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
    }

    def run(*words: str) -> str:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=580)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def dvc(*words: str) -> str:
        return run(sys.executable, "-m", "dvc", *words)

    shutil.copy(fresh_store, "mlflow.db")
    monkeypatch.setattr(connection, "DEFAULT_URI", f"sqlite:///{folder}/mlflow.db")
    fabricate([0])
    Path("train.py").write_text(EXPERIMENT)
    Path("dvc.yaml").write_text(DVC_YAML)
    Path(".gitignore").write_text("/work\n/mlflow.db*\n/mlruns\n/results\n__pycache__\n")
    run("git", "init", "--quiet")
    dvc("init", "--quiet")
    identity = ("user.name=Somebody", "user.email=somebody@example.org")
    run("git", *(word for text in identity for word in ("-c", text)), "add", "--all")
    for text in identity:
        run("git", "config", *text.split("="))
    run("git", "commit", "--quiet", "--message", "One")
    dvc("repro")
    run("git", "add", "--all")
    run("git", "commit", "--quiet", "--message", "Results")
    here = owner().key
    before = ids(shown()[here])

    def lr(value: float) -> tuple[str, str]:
        text = Path("params/studies/mini.yaml").read_text()
        assert "lr: 0.05" in text
        return ("--set-param", f"params/studies/mini.yaml:training.optimizer.lr={value}")

    dvc("exp", "run", "--name", "in-place", *lr(0.01))
    run("git", "checkout", "--", ".")
    dvc("checkout")
    dvc("exp", "run", "--temp", "--name", "temporary", *lr(0.02))
    for value in (0.03, 0.04):
        dvc("exp", "run", "--queue", "--name", f"queued-{value}", *lr(value))
    dvc("exp", "run", "--run-all", "--jobs", "2")

    found = shown()
    names = {"in-place": 0.01, "temporary": 0.02, "queued-0_03": 0.03, "queued-0_04": 0.04}
    assert set(found) == {here, *(f"{here}-{name}" for name in names)}
    assert ids(found[here]) == before
    for name, value in names.items():
        records = found[f"{here}-{name}"]
        assert len(records) == 3
        record = records["glyphs/tiny/sar/seed0"]
        assert record.data.params["training.optimizer.lr"] == str(value)
        assert record.info.run_name == f"sar/seed0 ({name.replace('_', '.')})"
        # Its files lie in the checkout and not where DVC has removed them.
        assert client().list_artifacts(record.info.run_id, "train")
        assert str(folder / "mlruns") in record.info.artifact_uri
