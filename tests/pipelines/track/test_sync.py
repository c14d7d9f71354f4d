"""The MLflow view says what the local files say, completely and without duplicates."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.study import Run
from pipelines.track import mlflow_store
from pipelines.track.__main__ import main as track_main
from pipelines.track.owner import OWNER_KEY, owner
from pipelines.track.sync import attempt, sync
from tests.pipelines.track.glyphs import (
    CLASSES,
    fabricate,
    fake_comparison,
    fake_evaluation,
    fake_run,
    fake_training,
    finished,
)
from tests.pipelines.track.servers import project_environment
from tests.pipelines.track.stores import (
    assert_all_shown,
    assert_shown,
    client,
    contents,
    curves,
    history,
    local_curves,
    records,
    times,
)

pytestmark = pytest.mark.usefixtures("empty_store")


def test_a_synced_run_says_what_its_files_say():
    study = finished([0])
    sync(study)
    assert_all_shown(study)
    found = records()
    parent, sar = found["mini: comparison"], found["glyphs/tiny/sar/seed0"]
    assert sar.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert sar.data.tags["mlflow.source.git.commit"] == "c" * 40
    assert sar.info.run_name == "sar/seed0"
    colours = {record.data.tags.get("mlflow.runColor") for record in found.values()}
    assert len(colours) == 3  # The comparison has none.
    assert sar.data.tags["sar.device"] == "cpu"
    assert sar.data.tags["sar.version.torch"] == "2.13.0"
    assert sar.data.tags["sar.config"] == study.run("glyphs/tiny/sar/seed0").parameters_hash(
        "train"
    )
    assert sar.data.params["training.optimizer.lr"] == "0.05"
    assert sar.data.params["method"] == "sar"
    assert sar.data.params["seed"] == "0"
    assert sar.data.params["model.model.backbone.depth"] == "1"
    assert sar.data.metrics["test/mIoU/head"] == 80.0
    assert "test/mIoU/tail" not in sar.data.metrics
    assert sar.data.metrics["workload/train_wall_seconds"] == 60.0
    assert sar.data.metrics["workload/evaluate_peak_memory_mib"] == 512.5
    assert (sar.info.end_time - sar.info.start_time, sar.info.status) == (60_000, "FINISHED")
    assert times(sar, "train/lr")[::10] == [2000, 22000, 42000]
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
    paths = {item.path for item in client().list_artifacts(parent.info.run_id, "report")}
    assert {"report/per_class.png", "report/report.md", "report/table.md"} <= paths


def test_a_sync_in_batches_shows_all_of_it(monkeypatch):
    study = finished([0])
    monkeypatch.setattr("pipelines.track.sync.BATCH", 1)
    sync(study)
    assert_all_shown(study)
    found = records()
    note = found["mini: comparison"].data.tags[mlflow_store.NOTE]
    for run in study.runs:
        assert found[run.name].info.run_id in note


def test_syncing_again_changes_nothing_even_after_a_sync_that_broke_off():
    study = finished([0])
    sync(study)
    before, ids = contents(), {r.info.run_id for r in records().values()}
    sync(study)
    sync(study, study.runs[0])
    for record in records().values():
        client().delete_tag(record.info.run_id, "sar.sent")
    sync(study)
    assert contents() == before
    assert {r.info.run_id for r in records().values()} == ids


def test_the_logging_of_a_sync_that_broke_off_half_way_is_completed(monkeypatch, caplog):
    study = fabricate([0])
    for run in study.runs:
        fake_run(run)
    send, calls = mlflow_store._send, []

    def breaks_off(client_, record, view):
        calls.append(view.title)
        if len(calls) == 2:
            half = [point for point in view.points if point.step <= 150]
            object.__setattr__(view, "points", half)
            send(client_, record, view)
            raise OSError(28, "No space left on device")
        send(client_, record, view)

    with monkeypatch.context() as patch:
        patch.setattr(mlflow_store, "_send", breaks_off)
        assert attempt(study) is None
    assert "No space left on device" in caplog.text
    assert 0 < len(curves(records()[study.runs[0].name])["train/lr"]) < 30
    sync(study)
    assert_all_shown(study)


def test_changed_curves_replace_the_old_ones():
    study = fabricate([0])
    for run in study.runs:
        fake_run(run)
    sync(study)
    old = records()
    fake_training(study.runs[0], shift=0.25)
    sync(study)
    found = records()
    changed, same = (run.name for run in study.runs)
    assert curves(found[changed]) == local_curves(study.runs[0])
    assert found[same].info.run_id == old[same].info.run_id
    # The old scores are of the old weights.
    assert "test/mIoU" not in found[changed].data.metrics
    assert found[changed].info.status == "SCHEDULED"
    fake_evaluation(study.runs[0])
    sync(study, study.runs[0])
    assert_shown(study.runs[0], records()[changed])
    assert records()[changed].info.status == "FINISHED"


def test_changed_parameters_replace_the_run_when_it_is_trained_again():
    study = fabricate([0])
    for run in study.runs:
        fake_run(run)
    sync(study)
    study = fabricate([0], lr=0.1)
    sync(study)
    name = study.runs[0].name
    assert records()[name].data.params["training.optimizer.lr"] == "0.05"
    for run in study.runs:
        fake_run(run)
    sync(study)
    assert records()[name].data.params["training.optimizer.lr"] == "0.1"
    assert_all_shown(study)


def test_a_partial_study_is_completed():
    study = fabricate([0, 1])
    fake_training(study.runs[0])
    sync(study, study.runs[0])
    assert set(records()) == {"mini: comparison", study.runs[0].name}
    first = records()[study.runs[0].name].info.run_id
    sync(study)
    for run in study.runs:
        if run is not study.runs[0]:
            fake_training(run)
        fake_evaluation(run)
    sync(study)
    assert_all_shown(study)
    found = records()
    assert found[study.runs[0].name].info.run_id == first
    assert found["mini: comparison"].info.status == "SCHEDULED"
    fake_comparison(study)
    sync(study)
    assert records()["mini: comparison"].info.status == "FINISHED"
    fake_comparison(study, mean=52.0)
    sync(study)
    parent = records()["mini: comparison"]
    assert history(parent, "summary/glyphs/tiny/sar/mIoU/mean") == [(0, 52.0)]
    children = [r for name, r in records().items() if name != "mini: comparison"]
    assert {r.data.tags["mlflow.parentRunId"] for r in children} == {parent.info.run_id}


def test_two_runs_of_one_key_become_one_and_a_deleted_experiment_comes_back():
    study = fabricate([0])
    for run in study.runs:
        fake_run(run)
    sync(study)
    experiment = client().get_experiment_by_name("mini").experiment_id
    tags = {"sar.run": study.runs[0].name, OWNER_KEY: owner().key}
    client().create_run(experiment, tags=tags)
    client().delete_experiment(experiment)
    sync(study, study.runs[0])
    sync(study)
    assert_all_shown(study)


def test_an_unreadable_file_costs_its_own_run_only(caplog):
    study = fabricate([0])
    for run in study.runs:
        fake_run(run)
    study.runs[0].output("evaluate", "receipt.json").write_text("{")
    assert attempt(study) is None
    assert "not valid JSON" in caplog.text
    assert set(records()) == {"mini: comparison", study.runs[1].name}


def test_a_changed_number_is_not_shown_and_costs_its_own_run_only(caplog):
    study = fabricate([0])
    for run in study.runs:
        fake_run(run)
    path = study.runs[0].output("evaluate", "metrics.json")
    path.write_text(path.read_text().replace("50.0", "99.9"))
    assert attempt(study) is None
    assert f"{path}: was changed or damaged" in caplog.text
    assert set(records()) == {"mini: comparison", study.runs[1].name}


def test_the_command(capsys):
    study = fabricate([0])
    fake_run(study.runs[0])
    Path("mlflow.db").unlink()
    assert track_main(["--study", "mini", "--init"]) == 0
    assert Path("mlflow.db").is_file()
    assert client().get_experiment_by_name("mini") is None
    assert track_main(["--study", "mini"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("1 of 2 runs of study mini are in MLflow; mlflow ui shows them at http")
    assert track_main(["--study", "mini", "--run", "glyphs/tiny/sar/seed9"]) == 2
    assert track_main(["--study", "none"]) == 2


def test_importing_track_is_cheap():
    heavy = "{'mlflow', 'pandas', 'torch'}"
    code = f"import sys, pipelines.track.__main__; print({heavy} & set(sys.modules))"
    words = [sys.executable, "-c", code]
    out = subprocess.run(
        words, env=project_environment(), capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "set()"


def test_published_runs_are_shown_without_the_weights_that_they_began_with(monkeypatch):
    study = fabricate([1])
    for run in study.runs:
        fake_run(run)
    gone = Path("data/weights/tiny/receipt.json")
    monkeypatch.setattr(Run, "input_receipts", lambda run, stage: [run.dataset.receipt, gone])
    sync(study)
    assert {run.name for run in study.runs} <= set(records())
