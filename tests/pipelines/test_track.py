"""The MLflow view: complete, without duplicates, and never in the way of the work."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import track
from pipelines.artifacts import canonical_json, staged, write_receipt
from pipelines.study import Run, Study

pytest.importorskip("mlflow")

ROOT = Path(__file__).parents[2]
CLASSES = ["background", "a", "b"]
ITERATIONS = range(10, 310, 10)
CURVES = ("lr", "loss", "decode.loss_ce", "decode.acc_seg", "loss_aux_ce", "loss_p2a")

CARD = """
title: Two glyphs
classes: [background, a, b]
palette: [[0, 0, 0], [1, 1, 1], [2, 2, 2]]
source:
  kind: digits
  scenes:
    seed: 0
    size: 64
    digits_per_scene: [2, 5]
    digit_size: [16, 26]
    imbalance: 30.0
    scenes: {train: 12, val: 2, test: 4}
licence: none
citation: none
"""
MODEL = "{title: Tiny, config: _base_/models/fcn_hr18.py, model: {backbone: {depth: 1}}}"
STUDY = """
title: A mini study
description: Whether the view says what the files say.
kind: fixed-budget
datasets: [glyphs]
models: [tiny]
baseline: baseline
methods: {baseline: {label: Baseline}, sar: {label: SAR, plugin: "sar.mmseg:apply_sar"}}
seeds: %s
threads: 1
training:
  iterations: 300
  batch_size: 2
  optimizer: {type: SGD, lr: %s, momentum: 0.9}
  checkpoint_interval: 100
  log_interval: 10
"""


def fabricate(seeds: list[int], lr: float = 0.05) -> Study:
    """Parameters and prepared data of a study in the working directory, which stages never ran."""
    files = {"datasets/glyphs": CARD, "models/tiny": MODEL, "studies/mini": STUDY % (seeds, lr)}
    for name, text in files.items():
        path = Path("params", f"{name}.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    study = Study.load("mini")
    dataset = study.datasets["glyphs"]
    info = {"digests": {s: s[0] * 64 for s in ("train", "val", "test")}}
    info["counts"] = dict(dataset.card.source.scenes.scenes)
    with staged(dataset.prepared) as scratch:
        (scratch / "info.json").write_text(canonical_json(info))
        _finish(scratch, "prepare", "glyphs", "0" * 64, [])
    return study


def _finish(scratch: Path, stage: str, subject: str, parameters: str, inputs: list[Path]) -> None:
    write_receipt(scratch, stage=stage, subject=subject, parameters=parameters, inputs=inputs)
    runtime = {
        "started": "2026-01-02T03:04:05+00:00",
        "wall_seconds": 60.0,
        "cpu_seconds": 59.0,
        "peak_memory_mib": 512.5,
        "commit": "c" * 40,
        "dirty": False,
        "python": "3.11.2",
        "platform": "Linux",
        "versions": {"torch": "2.13.0"},
    }
    if stage == "train":
        runtime["device"] = "cpu"
    (scratch / "runtime.json").write_text(canonical_json(runtime))


def fake_training(run: Run, shift: float = 0.0) -> None:
    """Outputs of train; the second column of every other row is blank."""
    with staged(run.folder("train")) as scratch:
        rows = [",".join(("iteration", *CURVES))]
        for step in ITERATIONS:
            values = [f"{1 / step + shift + run.seed + k}" for k in range(len(CURVES))]
            values[1] = values[1] if step % 20 else ""
            rows.append(",".join([str(step), *values]))
        (scratch / "curves.csv").write_text("\n".join(rows) + "\n")
        (scratch / "config.py").write_text("a = 1\n")
        (scratch / "weights.safetensors").write_bytes(b"weights")
        parameters = run.parameters_hash("train")
        _finish(scratch, "train", run.name, parameters, [run.dataset.receipt])


def fake_evaluation(run: Run) -> None:
    metrics = {"split": "test", "mIoU": 50.0 + run.seed, "mAcc": 60.0, "aAcc": 70.0}
    metrics |= {name: dict.fromkeys(CLASSES, 50.0) | {"b": None} for name in ("IoU", "Acc")}
    metrics["groups"] = {"head": {"mIoU": 80.0}, "mid": {"mIoU": 40.0}, "tail": {"mIoU": None}}
    with staged(run.folder("evaluate")) as scratch:
        (scratch / "metrics.json").write_text(canonical_json(metrics))
        (scratch / "confusion.csv").write_text("truth,a\na,1\n")
        inputs = [run.output("train", "receipt.json"), run.dataset.receipt]
        _finish(scratch, "evaluate", run.name, run.parameters_hash("evaluate"), inputs)


def fake_run(run: Run) -> None:
    fake_training(run)
    fake_evaluation(run)


def fake_comparison(study: Study, mean: float = 51.0) -> None:
    inputs = [run.output("evaluate", "metrics.json") for run in study.runs]
    with staged(study.folder("compare")) as scratch:
        (scratch / "summary.csv").write_text(
            "dataset,model,method,metric,n,mean,std\n"
            f"glyphs,tiny,sar,mIoU,2,{mean},0.5\n"
            "glyphs,tiny,sar,IoU/a,2,50.0,0.1\n"
        )
        (scratch / "paired.csv").write_text(
            "dataset,model,method,metric,n,mean_difference,std_difference,wins\n"
            "glyphs,tiny,sar,mIoU,1,1.5,,1\n"
        )
        _finish(scratch, "compare", study.name, study.parameters_hash("compare"), inputs)
    inputs = [study.output("compare", "summary.csv")]
    with staged(study.folder("report")) as scratch:
        (scratch / "table.md").write_text("| method | mIoU |\n|---|---|\n| SAR | 51.0 |\n")
        (scratch / "report.md").write_text("# Report\n")
        shutil.copy(_picture(), scratch / "per_class.png")
        _finish(scratch, "report", study.name, study.parameters_hash("report"), inputs)


def _picture() -> Path:
    from PIL import Image

    path = Path("picture.png")
    Image.new("RGB", (320, 160), (17, 119, 51)).save(path)
    return path


@pytest.fixture(scope="module")
def fresh_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new sqlite store: creating one takes seconds, copying it does not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("store"))
        assert subprocess.run(_command("--init"), env=project_environment()).returncode == 0
        return Path("mlflow.db").resolve()


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project root as the working directory, and no setting of the user's."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    # MLflow keeps one connection for each URI, which a relative one would lead to another folder.
    monkeypatch.setattr(track.store, "DEFAULT_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


@pytest.fixture
def empty_store(project: Path, fresh_store: Path) -> None:
    shutil.copy(fresh_store, project / "mlflow.db")


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "pipelines.track", *words]


def project_environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def client():
    from mlflow.tracking import MlflowClient

    return MlflowClient(track.store.tracking_uri(), track.store.tracking_uri())


def records() -> dict[str, object]:
    """All runs of the experiment by their name; two of one name are an error."""
    experiment = client().get_experiment_by_name("mini")
    runs = client().search_runs([experiment.experiment_id])
    names = Counter(run.info.run_name for run in runs)
    assert max(names.values()) == 1, names
    return {run.info.run_name: run for run in runs}


def history(record, key: str) -> list[tuple[int, float]]:
    points = client().get_metric_history(record.info.run_id, key)
    return sorted((point.step, point.value) for point in points)


def contents() -> dict:
    """All that the store holds, without ids of its own making."""
    return {
        name: {
            "points": {key: history(record, key) for key in record.data.metrics},
            "params": record.data.params,
            "inputs": sorted(i.dataset.digest for i in record.inputs.dataset_inputs),
            "status": record.info.status,
            "times": (record.info.start_time, record.info.end_time),
        }
        for name, record in records().items()
    }


def expected_curve(run: Run, key: str, shift: float = 0.0) -> list[tuple[int, float]]:
    k = CURVES.index(key)
    steps = [s for s in ITERATIONS if k != 1 or s % 20]
    return [(s, float(f"{1 / s + shift + run.seed + k}")) for s in steps]


def assert_all_points(study: Study) -> None:
    found = records()
    assert len(found) == 1 + len(study.runs)
    for run in study.runs:
        for key in CURVES:
            assert history(found[run.name], f"train/{key}") == expected_curve(run, key), run.name
        assert history(found[run.name], "test/mIoU") == [(0, 50.0 + run.seed)]


def finished(seeds: list[int]) -> Study:
    """The made-up study with all runs and their comparison on disk."""
    study = fabricate(seeds)
    for run in study.runs:
        fake_run(run)
    fake_comparison(study)
    return study


@pytest.mark.usefixtures("empty_store")
def test_a_synced_run_says_what_its_files_say():
    study = finished([0])
    assert track.push(study)
    assert_all_points(study)
    found = records()
    parent, sar = found["mini: comparison"], found["glyphs/tiny/sar/seed0"]
    assert sar.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert sar.data.tags["mlflow.source.git.commit"] == "c" * 40
    assert sar.data.tags["sar.device"] == "cpu"
    assert sar.data.tags["sar.version.torch"] == "2.13.0"
    assert sar.data.tags["sar.config"] == study.run(sar.info.run_name).parameters_hash("train")
    assert sar.data.params["training.optimizer.lr"] == "0.05"
    assert sar.data.params["method"] == "sar"
    assert sar.data.params["seed"] == "0"
    assert sar.data.params["model.model.backbone.depth"] == "1"
    assert sar.data.metrics["test/mIoU/head"] == 80.0
    assert "test/mIoU/tail" not in sar.data.metrics
    assert sar.data.metrics["cost/train_wall_seconds"] == 60.0
    assert sar.data.metrics["cost/evaluate_peak_memory_mib"] == 512.5
    assert (sar.info.end_time - sar.info.start_time, sar.info.status) == (60_000, "FINISHED")
    inputs = {
        item.tags[0].value: (item.dataset.name, item.dataset.digest)
        for item in sar.inputs.dataset_inputs
    }
    assert inputs == {"train": ("glyphs-train", "t" * 36), "test": ("glyphs-test", "t" * 36)}
    paths = {item.path for item in client().list_artifacts(sar.info.run_id, "evaluate")}
    assert {"evaluate/per_class.json", "evaluate/confusion.csv"} <= paths
    table = client().load_table(parent.info.experiment_id, "evaluate/per_class.json")
    assert list(table["class"][:3]) == CLASSES

    assert parent.data.metrics["summary/glyphs/tiny/sar/mIoU/mean"] == 51.0
    assert parent.data.metrics["paired/glyphs/tiny/sar/mIoU/mean_difference"] == 1.5
    assert "paired/glyphs/tiny/sar/mIoU/std_difference" not in parent.data.metrics
    assert not [key for key in parent.data.metrics if "IoU/a" in key]
    assert "Whether the view says" in parent.data.tags["mlflow.note.content"]
    assert "| SAR | 51.0 |" in parent.data.tags["mlflow.note.content"]
    paths = {item.path for item in client().list_artifacts(parent.info.run_id, "report")}
    assert {"report/per_class.png", "report/report.md", "report/table.md"} <= paths


@pytest.mark.usefixtures("empty_store")
def test_syncing_again_changes_nothing_even_after_a_sync_that_broke_off():
    study = finished([0])
    assert track.push(study)
    before, ids = contents(), {r.info.run_id for r in records().values()}
    assert track.push(study)
    assert track.push(study, study.runs[0])
    for record in records().values():
        client().delete_tag(record.info.run_id, "sar.sent")
    assert track.push(study)
    assert contents() == before
    assert {r.info.run_id for r in records().values()} == ids


@pytest.mark.usefixtures("empty_store")
def test_the_logging_of_a_sync_that_broke_off_half_way_is_completed(monkeypatch, caplog):
    study = fabricate([0])
    for run in study.runs:
        fake_run(run)
    send, calls = track.store._send, []

    def breaks_off(client_, record, view):
        calls.append(view.title)
        if len(calls) == 2:
            half = [point for point in view.points if point.step <= 150]
            object.__setattr__(view, "points", half)
            send(client_, record, view)
            raise OSError(28, "No space left on device")
        send(client_, record, view)

    with monkeypatch.context() as patch:
        patch.setattr(track.store, "_send", breaks_off)
        assert not track.push(study)
    assert "No space left on device" in caplog.text
    assert track.push(study)
    assert_all_points(study)


@pytest.mark.usefixtures("empty_store")
def test_changed_curves_replace_the_old_ones():
    study = fabricate([0])
    for run in study.runs:
        fake_run(run)
    assert track.push(study)
    old = records()
    fake_training(study.runs[0], shift=0.25)
    assert track.push(study)
    found = records()
    changed, same = (run.name for run in study.runs)
    expected = expected_curve(study.runs[0], "loss_p2a", shift=0.25)
    assert history(found[changed], "train/loss_p2a") == expected
    assert found[same].info.run_id == old[same].info.run_id
    # The old scores are of the old weights.
    assert "test/mIoU" not in found[changed].data.metrics
    assert found[changed].info.status == "RUNNING"
    fake_evaluation(study.runs[0])
    assert track.push(study, study.runs[0])
    assert records()[changed].data.metrics["test/mIoU"] == 50.0


@pytest.mark.usefixtures("empty_store")
def test_changed_parameters_replace_the_run_when_it_is_trained_again():
    study = fabricate([0])
    for run in study.runs:
        fake_run(run)
    assert track.push(study)
    study = fabricate([0], lr=0.1)
    assert track.push(study)
    name = study.runs[0].name
    assert records()[name].data.params["training.optimizer.lr"] == "0.05"
    for run in study.runs:
        fake_run(run)
    assert track.push(study)
    assert records()[name].data.params["training.optimizer.lr"] == "0.1"
    assert_all_points(study)


@pytest.mark.usefixtures("empty_store")
def test_a_partial_study_is_completed():
    study = fabricate([0, 1])
    fake_training(study.runs[0])
    assert track.push(study, study.runs[0])
    assert set(records()) == {"mini: comparison", study.runs[0].name}
    first = records()[study.runs[0].name].info.run_id
    assert track.push(study)
    for run in study.runs:
        if run is not study.runs[0]:
            fake_training(run)
        fake_evaluation(run)
    assert track.push(study)
    assert_all_points(study)
    found = records()
    assert found[study.runs[0].name].info.run_id == first
    assert found["mini: comparison"].info.status == "RUNNING"
    fake_comparison(study)
    assert track.push(study)
    assert records()["mini: comparison"].info.status == "FINISHED"
    fake_comparison(study, mean=52.0)
    assert track.push(study)
    parent = records()["mini: comparison"]
    assert history(parent, "summary/glyphs/tiny/sar/mIoU/mean") == [(0, 52.0)]
    children = [r for name, r in records().items() if name != "mini: comparison"]
    assert {r.data.tags["mlflow.parentRunId"] for r in children} == {parent.info.run_id}


@pytest.mark.usefixtures("empty_store")
def test_two_runs_of_one_key_become_one_and_a_deleted_experiment_comes_back():
    study = fabricate([0])
    for run in study.runs:
        fake_run(run)
    assert track.push(study)
    experiment = client().get_experiment_by_name("mini").experiment_id
    client().create_run(experiment, tags={"sar.run": study.runs[0].name})
    client().delete_experiment(experiment)
    assert track.push(study)
    assert_all_points(study)


@pytest.mark.usefixtures("empty_store")
def test_an_unreadable_file_costs_its_own_run_only(caplog):
    study = fabricate([0])
    for run in study.runs:
        fake_run(run)
    study.runs[0].output("evaluate", "receipt.json").write_text("{")
    assert not track.push(study)
    assert "not valid JSON" in caplog.text
    assert set(records()) == {"mini: comparison", study.runs[1].name}


@pytest.mark.slow
def test_processes_that_start_at_once_share_a_fresh_store():
    study = fabricate([0, 1])
    for run in study.runs:
        fake_run(run)
    code = (
        "import sys; from pipelines import track; from pipelines.study import Study; "
        "s = Study.load('mini'); sys.exit(not track.push(s, s.run(sys.argv[1])))"
    )
    words = [sys.executable, "-c", code]
    processes = [
        subprocess.Popen([*words, run.name], env=project_environment()) for run in study.runs
    ]
    assert [process.wait(timeout=120) for process in processes] == [0] * len(study.runs)
    assert_all_points(study)


@pytest.mark.usefixtures("empty_store")
def test_an_outage_is_one_warning_and_no_error(monkeypatch, caplog, capfd):
    study = fabricate([0])
    fake_run(study.runs[0])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{_free_port()}")
    start = time.perf_counter()
    assert not track.push(study, study.runs[0])
    assert time.perf_counter() - start < 10
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "\n" not in warning
    assert "secret" not in warning
    command = f"python -m pipelines.track --study mini --run {study.runs[0].name}"
    assert warning.endswith(command)
    assert "refused" in warning
    assert "Traceback" not in capfd.readouterr().err
    assert track.main(["--study", "mini"]) == 3
    assert track.main(["--init"]) == 3
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert track.main(["--study", "mini"]) == 0


def test_a_server_that_never_answers_is_left_alone(monkeypatch, caplog):
    study = fabricate([0])
    fake_run(study.runs[0])
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.perf_counter()
        assert not track.push(study)
    assert time.perf_counter() - start < 15
    assert len(caplog.records) == 1


def test_a_store_whose_creation_broke_off_is_created_again(caplog):
    study = fabricate([0])
    fake_run(study.runs[0])
    # As a full disk would: the files of a process may not grow beyond 100 kB, a store is larger.
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
        "from pipelines import track; sys.exit(track.main(['--study', 'mini']))"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, env=project_environment(), capture_output=True, text=True)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert not Path("mlflow.db").exists()
    assert track.push(study)
    assert records()[study.runs[0].name].info.status == "FINISHED"


def test_a_missing_mlflow_is_no_error(monkeypatch, caplog):
    study = fabricate([0])
    fake_run(study.runs[0])
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    assert not track.push(study)
    assert "mlflow" in caplog.records[0].getMessage()


@pytest.mark.usefixtures("empty_store")
def test_the_command(capsys):
    study = fabricate([0])
    fake_run(study.runs[0])
    assert track.main(["--study", "mini", "--init"]) == 0
    assert Path("mlflow.db").is_file()
    assert client().get_experiment_by_name("mini") is None
    assert track.main(["--study", "mini"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("1 of 2 runs of study mini are in MLflow; mlflow ui shows them at http")
    assert track.main(["--study", "mini", "--run", "glyphs/tiny/sar/seed9"]) == 2
    assert track.main(["--study", "none"]) == 2


def test_importing_track_is_cheap():
    code = "import sys, pipelines.track; print({'mlflow', 'pandas', 'torch'} & set(sys.modules))"
    words = [sys.executable, "-c", code]
    out = subprocess.run(
        words, env=project_environment(), capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "set()"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@contextlib.contextmanager
def mlflow_server(*words: str) -> Iterator[str]:
    """`mlflow <words>` on a free port of this machine, in the working directory; its address."""
    port = _free_port()
    command = [sys.executable, "-m", "mlflow", *words, "--port", str(port), "--workers", "1"]
    environment = os.environ | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with Path("server.log").open("w") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        _wait_until_healthy(server, f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _wait_until_healthy(server: subprocess.Popen, address: str) -> None:
    for _ in range(900):
        assert server.poll() is None, Path("server.log").read_text()
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=5):
            return
        time.sleep(0.2)
    pytest.fail(f"no mlflow server in 180 s: {Path('server.log').read_text()}")


@pytest.mark.slow
def test_a_server_is_synced_over_http(monkeypatch, fresh_store):
    shutil.copy(fresh_store, "served.db")
    study = fabricate([0, 1])
    for run in study.runs[:3]:
        fake_run(run)
    with mlflow_server("server", "--backend-store-uri", "sqlite:///served.db") as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        assert track.push(study)
        fake_run(study.runs[3])
        fake_comparison(study)
        assert track.push(study)
        assert track.push(study)
        assert_all_points(study)
        parent = records()["mini: comparison"].info.run_id
        paths = {item.path for item in client().list_artifacts(parent, "report")}
        assert "report/per_class.png" in paths
        with urllib.request.urlopen(
            f"{address}/get-artifact?path=report/per_class.png&run_uuid={parent}"
        ) as answer:
            assert answer.read() == Path("picture.png").read_bytes()
    assert not Path("mlflow.db").exists()
    assert json.loads(study.runs[0].output("evaluate", "metrics.json").read_text())["mIoU"] == 50.0
