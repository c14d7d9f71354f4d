"""A training is shown while it goes on, completed in place, and never held up by its view."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.base import artifacts
from pipelines.running.curves import read_curves
from pipelines.running.progress import clock, logged, read_progress, work_folder
from pipelines.study import Run
from pipelines.track import live
from pipelines.track.push import push
from pipelines.track.sync import sync
from tests.pipelines import mini
from tests.pipelines.track.glyphs import fabricate, fake_evaluation
from tests.pipelines.track.servers import project_environment, silent_server, wait_until
from tests.pipelines.track.stores import (
    assert_shown,
    client,
    curves,
    history,
    local_curves,
    records,
    times,
)

LAST = 300


@pytest.fixture
def run(monkeypatch) -> Run:
    monkeypatch.setattr(live, "FIRST", 0.0)
    monkeypatch.setattr(live, "EVERY", 0.2)
    return fabricate([0]).runs[1]


class Training:
    """What mmengine does of a training that this is about: it logs, and calls the hook."""

    def __init__(self, run: Run, first: int = 0, shift: float = 0.0) -> None:
        self.run, self.iteration, self._shift = run, first, shift
        self.work = work_folder(run)
        # Like mmengine's, a folder for each session, in order of their names.
        sessions = len(list(self.work.glob("session*")))
        self._log = self.work / f"session{sessions}" / "vis_data" / "scalars.json"
        self._log.parent.mkdir(parents=True)

    def go_on(self, hook: live.LiveCurves, until: int, pause: float = 0.0) -> None:
        while self.iteration < until:
            step = self.iteration + 1
            if step % 10 == 0:
                self._write({"loss": 1 / step + self._shift, "lr": 0.1, "time": 0.5, "step": step})
            hook.after_train_iter(SimpleNamespace(iter=self.iteration), self.iteration)
            self.iteration = step
            if step % 50 == 0:
                # A validation comes after the hooks of its iteration.
                self._write({"mIoU": float(step), "step": step})
            time.sleep(pause)

    @contextlib.contextmanager
    def begun(self) -> Iterator[live.LiveCurves]:
        """Its first moments; yields the hook to go on with."""
        with live.live_curves(self.run, self.work) as hook:
            self.begin(hook)
            yield hook

    def begin(self, hook: live.LiveCurves) -> None:
        hook.before_train(SimpleNamespace(iter=self.iteration))

    def end(self, hook: live.LiveCurves) -> None:
        hook.after_train(SimpleNamespace(iter=self.iteration))

    def _write(self, values: dict) -> None:
        with self._log.open("a") as file:
            file.write(json.dumps(values) + "\n")


def publish(run: Run, work: Path) -> None:
    """What train publishes of a training in `work`."""
    found = read_curves(work)
    names = sorted({name for values in found.values() for name in values})
    rows = [
        ",".join([str(step), *(str(values.get(name, "")) for name in names)])
        for step, values in sorted(found.items())
    ]
    with artifacts.staged(run.folder("train")) as scratch:
        (scratch / "curves.csv").write_text("\n".join([",".join(["iteration", *names]), *rows, ""]))
        (scratch / "weights.safetensors").write_bytes(b"weights")
        artifacts.write_receipt(
            scratch,
            stage="train",
            subject=run.name,
            parameters=run.parameters_hash("train"),
            inputs=[run.dataset.receipt],
        )
        runtime = {"started": "2026-01-02T03:04:05+00:00", "wall_seconds": 1.0} | logged(work)
        (scratch / "runtime.json").write_text(artifacts.canonical_json(runtime))


def shown(run: Run):
    return records().get(run.name)


def deleted(run: Run) -> list:
    from mlflow.entities import ViewType

    return client().search_runs([shown(run).info.experiment_id], "", ViewType.DELETED_ONLY)


def steps_shown(run: Run) -> int:
    record = shown(run)
    return 0 if record is None else len(curves(record).get("train/loss", []))


def wait_for_status(run: Run, status: str) -> None:
    wait_until(lambda: shown(run) is not None and shown(run).info.status == status)


def assert_in_place(run: Run, before) -> None:
    """The finished run is the one that was shown before it was finished, and whole."""
    fake_evaluation(run)
    sync(run.study)
    after = shown(run)
    assert after.info.run_id == before.info.run_id
    assert after.info.status == "FINISHED"
    assert_shown(run, after)
    assert len(local_curves(run)["train/loss"]) == LAST / 10
    assert deleted(run) == []


@pytest.mark.usefixtures("empty_store")
def test_a_curve_grows_and_is_completed_in_place(run, capfd):
    training = Training(run)
    with training.begun() as hook:
        training.go_on(hook, 105)
        wait_until(lambda: steps_shown(run) == 10 and shown(run).inputs.dataset_inputs)
        record = shown(run)
        assert record.info.status == "RUNNING"
        assert history(record, "val/mIoU") == [(50, 50.0), (100, 100.0)]
        assert record.data.params["training.optimizer.lr"] == "0.05"
        assert {i.dataset.name for i in record.inputs.dataset_inputs} == {
            "glyphs-train",
            "glyphs-test",
        }
        training.go_on(hook, 205)
        wait_until(lambda: steps_shown(run) == 20)
        early = times(shown(run), "train/loss")
        training.go_on(hook, LAST)
        training.end(hook)
        publish(run, training.work)
    assert push(run.study, run)
    assert shown(run).info.status == "SCHEDULED"
    assert times(shown(run), "train/loss")[:20] == early
    assert_in_place(run, record)
    assert capfd.readouterr().err == ""


TRAINING = """
import sys
from pipelines.study import Study
from pipelines.track import live
from tests.pipelines.track.test_live import Training
live.FIRST, live.EVERY = 0.0, 0.2
run = Study.load("mini").run(sys.argv[1])
training = Training(run)
with training.begun() as hook:
    training.go_on(hook, 147)
    training.go_on(hook, 300, pause=60)
"""


@contextlib.contextmanager
def a_training_process(run: Run):
    """A training that is at iteration 147, and shown so, in a process of its own."""
    words = [sys.executable, "-c", TRAINING, run.name]
    process = subprocess.Popen(words, env=project_environment())
    try:
        wait_until(lambda: steps_shown(run) == 14)
        yield process
    finally:
        process.kill()
        process.wait()


def children(process: subprocess.Popen) -> list[int]:
    listing = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(word) for word in listing.split()]


@pytest.mark.slow
@pytest.mark.usefixtures("empty_store")
@pytest.mark.parametrize("with_worker", [False, True])
def test_a_killed_training_is_shown_as_killed_and_goes_on_in_place(run, with_worker):
    with a_training_process(run) as process:
        before = shown(run)
        assert before.info.status == "RUNNING"
        sync(run.study)
        assert shown(run).info.status == "RUNNING"
        (worker,) = children(process)
        if with_worker:
            os.kill(worker, signal.SIGKILL)
        process.kill()
        process.wait()
        if with_worker:
            # As when the whole machine went down: the next sync sees that nothing lives.
            sync(run.study)
        wait_for_status(run, "KILLED")
    assert shown(run).info.end_time > before.info.start_time
    # From its last checkpoint; it logs 110 to 140 again.
    training = Training(run, first=100)
    with training.begun() as hook:
        training.go_on(hook, 203)
        wait_until(lambda: steps_shown(run) == 20)
        wait_for_status(run, "RUNNING")
        training.go_on(hook, LAST)
        training.end(hook)
        publish(run, training.work)
    assert_in_place(run, before)


@pytest.mark.usefixtures("empty_store")
def test_a_training_that_fails_is_shown_as_failed(run):
    training = Training(run)
    with (
        pytest.raises(ZeroDivisionError),
        live.live_curves(run, training.work) as hook,
    ):
        training.begin(hook)
        training.go_on(hook, 57)
        raise ZeroDivisionError
    wait_for_status(run, "FAILED")
    assert steps_shown(run) == 5
    with live.live_curves(run, training.work):
        assert read_progress(training.work).status == "RUNNING"
    assert read_progress(training.work).status == "KILLED"


@pytest.mark.usefixtures("empty_store")
def test_a_resumed_training_with_other_values_leaves_no_stale_point(run, monkeypatch):
    """As on a GPU, where it does not repeat its values exactly."""
    monkeypatch.setattr(live, "FIRST", 1e9)
    training = Training(run)
    with training.begun() as hook:
        training.go_on(hook, 147)
        sync(run.study, run)
    first = shown(run)
    training = Training(run, first=100, shift=0.5)
    with training.begun() as hook:
        sync(run.study, run)
        assert shown(run).info.run_id == first.info.run_id
        training.go_on(hook, 123)
        sync(run.study, run)
        second = shown(run)
        assert second.info.run_id != first.info.run_id
        loss = dict(history(second, "train/loss"))
        assert (max(loss), loss[100], loss[110]) == (120, 1 / 100, 1 / 110 + 0.5)
        training.go_on(hook, LAST)
        sync(run.study, run)
        assert shown(run).info.run_id == second.info.run_id
        training.end(hook)
        publish(run, training.work)
    fake_evaluation(run)
    sync(run.study)
    assert shown(run).info.run_id == second.info.run_id
    assert_shown(run, shown(run))


def test_a_store_that_hangs_holds_nothing_up_and_is_one_warning(run, monkeypatch, capfd, caplog):
    monkeypatch.setattr("pipelines.track.push.PATIENCE", 3)
    monkeypatch.setattr(live, "_LAST_WAIT", 1)
    training = Training(run)
    with silent_server() as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        start = time.monotonic()
        with training.begun() as hook:
            training.go_on(hook, LAST, pause=0.01)
            training.end(hook)
            publish(run, training.work)
        assert not push(run.study, run)
        assert time.monotonic() - start < 60
    assert len(capfd.readouterr().err.splitlines()) + len(caplog.messages) == 1


@pytest.mark.usefixtures("empty_store")
def test_a_store_that_is_down_is_one_warning_and_tried_again(run, monkeypatch, capfd, caplog):
    """One for the whole command: the end of the training has nothing to add."""
    Path("mlflow.db").rename("away.db")
    Path("mlflow.db").mkdir()
    training = Training(run)
    err = ""

    def warned() -> bool:
        nonlocal err
        err += capfd.readouterr().err
        return "Send it with" in err

    with training.begun() as hook:
        training.go_on(hook, 105)
        wait_until(warned)
        time.sleep(2)
        training.go_on(hook, LAST)
        training.end(hook)
        publish(run, training.work)
    assert not push(run.study, run)
    err += capfd.readouterr().err
    assert len(err.splitlines()) + len(caplog.messages) == 1, err
    Path("mlflow.db").rmdir()
    Path("away.db").rename("mlflow.db")
    fake_evaluation(run)
    sync(run.study)
    assert_shown(run, shown(run))


def test_a_view_that_cannot_be_begun_is_one_warning(run, monkeypatch, caplog):
    training = Training(run)
    monkeypatch.setattr(live, "TIMES", "missing/times.csv")
    with training.begun() as hook:
        training.go_on(hook, LAST)
        training.end(hook)
        publish(run, training.work)
    (warning,) = caplog.messages
    assert warning.endswith(f"--study mini --run {run.name}")
    assert "logged" not in artifacts.read_json(run.output("train", "runtime.json"))


def test_points_have_times_between_those_that_are_known():
    seconds = clock({0: 1_000_000, 10: 1_004_000, 30: 1_010_000})
    assert [seconds(step) for step in (0, 5, 10, 15, 30, 40)] == [0, 2, 4, 5.5, 10, 10]
    assert clock({40: 7})(20) == 0


def test_half_a_line_is_not_read(run, monkeypatch):
    monkeypatch.setattr(live, "FIRST", 1e9)
    training = Training(run)
    with training.begun() as hook:
        training.go_on(hook, 20)
    for path in (training.work / live.TIMES, training.work / "session0/vis_data/scalars.json"):
        path.write_text(path.read_text() + "3")
    assert list(read_progress(training.work).times) == [0, 10, 20]
    training = Training(run, first=10)
    with training.begun() as hook:
        training.go_on(hook, 40)
    found = read_progress(training.work)
    assert list(found.times) == [0, 10, 20, 30, 40]
    assert list(found.curves) == [10, 20, 30, 40]


LIVE_TRAIN = """
import sys
from pipelines.track import live
live.FIRST, live.EVERY = 0.0, 0.2
from pipelines.train.__main__ import main
sys.exit(main())
"""


@pytest.mark.slow
def test_a_training_that_is_shown_gives_the_same_bytes(project):
    study = mini.study_file()
    mini.write_params(project, training=study["training"] | {"iterations": 40})
    run = mini.load().runs[1]

    def python(*words: str) -> None:
        done = subprocess.run(
            [sys.executable, *words], env=project_environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "MLflow (" not in done.stderr

    python("-m", "pipelines.track", "--study", "mini", "--init")
    python("-m", "pipelines.fetch", "--study", "mini")
    python("-m", "pipelines.prepare", "--study", "mini")
    python("-m", "pipelines.train", "--study", "mini", "--run", run.name)
    receipt = run.output("train", "receipt.json").read_bytes()
    python("-c", LIVE_TRAIN, "--study", "mini", "--run", run.name)
    assert run.output("train", "receipt.json").read_bytes() == receipt
    assert curves(shown(run)) == local_curves(run)
    # The first training's run, which the second one's replaced.
    assert len(deleted(run)) == 1
