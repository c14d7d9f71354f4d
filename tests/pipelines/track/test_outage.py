"""A store that is down, hangs, dies or is full is one warning, and the next sync heals it."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.track import push as push_module
from pipelines.track.__main__ import main as track_main
from pipelines.track.push import push, push_when_due
from pipelines.track.sync import attempt, sync
from tests.pipelines.track.glyphs import fabricate, fake_run
from tests.pipelines.track.servers import (
    MlflowServer,
    command,
    free_port,
    mlflow_server,
    project_environment,
    silent_server,
    wait_until,
)
from tests.pipelines.track.stores import assert_all_shown, assert_shown, client, records

COMMAND = "python -m pipelines.track --study mini --run glyphs/tiny/baseline/seed0"


@pytest.fixture
def study():
    study = fabricate([0])
    for run in study.runs:
        fake_run(run)
    return study


@pytest.mark.usefixtures("empty_store")
def test_a_refusal_is_one_warning_and_no_error(study, monkeypatch, capfd):
    run = study.runs[0]
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{free_port()}")
        assert not push(study, run)
        (warning,) = capfd.readouterr().err.splitlines()
        assert warning.endswith(COMMAND)
        assert "refused" in warning
        assert "secret" not in warning
        assert track_main(["--study", "mini"]) == 3
        assert track_main(["--init"]) == 3
    assert push(study, run)
    assert_shown(run, records()[run.name])


@pytest.mark.usefixtures("empty_store")
def test_of_short_runs_one_is_sent_as_often_as_asked_and_long_ones_always(monkeypatch):
    short, other, long = fabricate([0, 1]).runs[:3]
    for run, seconds in ((short, 5.0), (other, 5.0), (long, 100.0)):
        fake_run(run, wall_seconds=seconds)
    monkeypatch.setenv(push_module.EVERY, "60")
    for run in (short, other, long):
        push_when_due(run)
    assert records().keys() >= {short.name, long.name}
    assert other.name not in records()
    monkeypatch.delenv(push_module.EVERY)  # a stage that a person starts
    push_when_due(other)
    assert_shown(other, records()[other.name])


def test_a_stage_does_not_wait_for_a_server_that_never_answers(study, monkeypatch, capfd, caplog):
    monkeypatch.setattr(push_module, "PATIENCE", 2)
    with silent_server() as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        assert not push(study, study.runs[0])
    assert capfd.readouterr().err == ""
    (warning,) = caplog.messages
    assert "no end in sight after 2 seconds" in warning
    assert warning.endswith(COMMAND)


@pytest.mark.slow
def test_the_limits_that_users_get_end_within_half_a_minute(study, monkeypatch, capfd, caplog):
    with silent_server() as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        start = time.monotonic()
        assert not push(study, study.runs[0])
        assert time.monotonic() - start < 45
        start = time.monotonic()
        assert track_main(["--study", "mini"]) == 3
        assert time.monotonic() - start < 45
    assert len(capfd.readouterr().err.splitlines()) + len(caplog.messages) == 2


@pytest.mark.slow
def test_a_server_that_hangs_and_dies_within_a_sync_is_completed_later(monkeypatch, caplog):
    study = fabricate([0, 1])
    for run in study.runs:
        fake_run(run, points=1000)

    def broken_off(at_points: int, number: signal.Signals) -> None:
        caplog.clear()
        result = []
        syncing = threading.Thread(target=lambda: result.append(attempt(study)))
        syncing.start()
        wait_until(lambda: _points("served.db") >= at_points)
        server.send(number)
        syncing.join(timeout=120)
        assert result == [None]
        (warning,) = caplog.messages
        assert warning.endswith("python -m pipelines.track --study mini")
        assert _points("served.db") < 20_000

    with mlflow_server("server", "--backend-store-uri", "sqlite:///served.db") as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
        with monkeypatch.context() as patch:
            patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
            broken_off(2000, signal.SIGSTOP)
        server.send(signal.SIGCONT)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")
        broken_off(8000, signal.SIGKILL)
        server.kill()
        server.start()
        sync(study)
        assert_all_shown(study)
        total = _points("served.db")
        sync(study)
        assert _points("served.db") == total


def _points(file: str) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        try:
            return connection.execute("SELECT count(*) FROM metrics").fetchone()[0]
        except sqlite3.OperationalError:
            return 0


@pytest.mark.slow
def test_the_command_with_a_server_that_is_down_then_hangs_and_then_works(study, monkeypatch):
    server = MlflowServer("server", "--backend-store-uri", "sqlite:///served.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)

    def sync_by_hand() -> subprocess.CompletedProcess:
        words = command("--study", "params/studies/mini.yaml")
        return subprocess.run(words, env=project_environment(), capture_output=True, text=True)

    down = sync_by_hand()
    assert (down.returncode, len(down.stderr.splitlines())) == (3, 1), down.stderr
    try:
        server.start()
        server.send(signal.SIGSTOP)
        with monkeypatch.context() as patch:
            patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
            hung = sync_by_hand()
        assert (hung.returncode, len(hung.stderr.splitlines())) == (3, 1), hung.stderr
        assert "timed out" in hung.stderr
        server.send(signal.SIGCONT)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")
        up = sync_by_hand()
        assert (up.returncode, up.stderr) == (0, "")
        assert up.stdout.split()[-1].startswith(f"{server.address}/#/experiments/")
        assert_all_shown(study)
        # The same again over HTTP, weights and models included.
        assert sync_by_hand().returncode == 0
        assert set(client().get_registered_model("mini.glyphs.tiny").aliases) == {"baseline", "sar"}
        assert len(client().search_model_versions("name = 'mini.glyphs.tiny'")) == 2
        run = records()["glyphs/tiny/sar/seed0"].info.run_id
        file = f"get-artifact?path=model/weights.safetensors&run_uuid={run}"
        with urllib.request.urlopen(f"{server.address}/{file}") as answer:
            weights = study.run("glyphs/tiny/sar/seed0").output("train", "weights.safetensors")
            assert answer.read() == weights.read_bytes()
    finally:
        server.stop()
    assert not Path("mlflow.db").exists()


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system of its own of so many bytes at `folder`."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount a small disk here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("exists", [False, True])
def test_a_full_disk_is_one_warning_and_healed_when_there_is_room(
    exists, study, monkeypatch, fresh_store, capfd, project
):
    with small_disk(project / "disk", "4m"):
        if exists:
            shutil.copy(fresh_store, "disk/mlflow.db")
        free = shutil.disk_usage("disk").free
        # Room for a lock file and a few pages, not for the study.
        Path("disk/ballast").write_bytes(bytes(free - 24_000))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/disk/mlflow.db")
        fake_run(study.runs[0], points=1000)
        assert not push(study, study.runs[0])
        (warning,) = capfd.readouterr().err.splitlines()
        assert "disk" in warning
        assert warning.endswith(COMMAND)
        Path("disk/ballast").unlink()
        sync(study)
        assert_all_shown(study)


def test_a_store_whose_creation_broke_off_is_created_again(study):
    # As a full disk would: the files of a process may not grow beyond 100 kB, a store is larger.
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
        "from pipelines.track.__main__ import main; sys.exit(main(['--study', 'mini']))"
    )
    words = [sys.executable, "-c", code]
    # What `make coverage` writes at the end of a process would be too large as well.
    environment = {k: v for k, v in project_environment().items() if "COVERAGE" not in k}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert not Path("mlflow.db").exists()
    sync(study)
    assert_all_shown(study)


def test_a_missing_mlflow_is_no_error(study, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    assert attempt(study) is None
    assert "mlflow" in caplog.records[0].getMessage()


def test_a_tracking_process_that_breaks_is_one_warning(study, monkeypatch, caplog):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    assert not push(study, study.runs[0])
    monkeypatch.setattr(sys, "executable", "/nowhere")
    assert not push(study, study.runs[0])
    first, second = caplog.messages
    assert "ended with status 1" in first
    assert "No such file" in second
    assert first.endswith(COMMAND) and second.endswith(COMMAND)
