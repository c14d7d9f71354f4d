"""Registered models: which weights, found by which name, and replaced when they change."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.base.artifacts import read_json, sha256_file
from pipelines.track import registry
from pipelines.track.__main__ import main
from pipelines.track.connection import tracking_uri
from pipelines.track.sync import sync
from tests.pipelines.track.glyphs import fabricate, fake_run, fake_training
from tests.pipelines.track.stores import client, records

pytestmark = pytest.mark.usefixtures("empty_store")

MODEL = "mini.glyphs.tiny"


@pytest.fixture
def study():
    study = fabricate([4, 2])
    for run in study.runs:
        fake_run(run)
    return study


def test_the_lowest_seed_of_each_method_is_registered_whatever_its_score(study, monkeypatch):
    from mlflow.artifacts import download_artifacts

    sync(study, register=True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri())
    for method in ("baseline", "sar"):
        run = study.run(f"glyphs/tiny/{method}/seed2")
        record = records()[run.name]
        version = client().get_model_version_by_alias(MODEL, method)
        assert version.run_id == record.info.run_id
        assert version.source == f"{record.info.artifact_uri}/model"
        receipt = read_json(run.output("train", "receipt.json"))
        sha256 = receipt["outputs"]["weights.safetensors"]
        assert version.tags["sar.weights"] == record.data.tags["sar.weights"] == sha256
        assert version.tags["sar.run"] == run.name
        folder = Path(download_artifacts(f"models:/{MODEL}@{method}"))
        assert sha256_file(folder / "weights.safetensors") == sha256
    assert len(client().search_model_versions(f"name = '{MODEL}'")) == 2
    # Weights can be large: only those that are registered are sent.
    other = records()["glyphs/tiny/sar/seed4"].info.run_id
    assert "model" not in {item.path for item in client().list_artifacts(other)}


def test_runs_without_weights_are_shown_and_named_and_not_registered(study, capsys):
    for run in study.runs:
        if run.method == "sar":
            run.output("train", "weights.safetensors").unlink()
    assert main(["--study", str(study.path)]) == 0
    said = capsys.readouterr().out
    assert "4 of 4 runs" in said
    assert "restored run keeps no weights: glyphs/tiny/sar/seed2\n" in said
    found = client().search_model_versions(f"name = '{MODEL}'")
    assert [version.tags["sar.method"] for version in found] == ["baseline"]
    assert set(records()) >= {run.name for run in study.runs}


def test_registering_again_changes_nothing_and_new_weights_replace_the_version(study):
    def versions():
        found = client().search_model_versions(f"name = '{MODEL}'")
        aliases = client().get_registered_model(MODEL).aliases
        assert {v.tags["sar.method"]: v.version for v in found} == aliases
        return {v.tags["sar.method"]: (v.version, v.run_id) for v in found}

    sync(study, register=True)
    before = versions()
    sync(study, register=True)
    assert versions() == before
    fake_training(study.run("glyphs/tiny/sar/seed2"), shift=0.5)
    sync(study, register=True)
    after = versions()
    assert after["baseline"] == before["baseline"]
    assert after["sar"][0] != before["sar"][0]
    assert after["sar"][1] == records()["glyphs/tiny/sar/seed2"].info.run_id


def test_a_registration_that_broke_off_is_completed(study, monkeypatch):
    def breaks_off(*_):
        raise OSError("gone")

    with monkeypatch.context() as patch:
        patch.setattr("mlflow.tracking.MlflowClient.set_registered_model_alias", breaks_off)
        with pytest.raises(OSError, match="gone"):
            sync(study, register=True)
    sync(study, register=True)
    assert set(client().get_registered_model(MODEL).aliases) == {"baseline", "sar"}
    assert len(client().search_model_versions(f"name = '{MODEL}'")) == 2


def test_only_the_study_registers_and_only_what_is_trained(study):
    sync(study, study.runs[0])
    sync(study)
    assert client().search_registered_models() == []
    study.run("glyphs/tiny/sar/seed2").output("train", "receipt.json").unlink()
    sync(study, register=True)
    # Not the seed that happens to be there.
    assert set(client().get_registered_model(MODEL).aliases) == {"baseline"}


@pytest.mark.parametrize(
    ("method", "alias"),
    [("sar", "sar"), ("lr1e-2", "lr1e-2"), ("latest", "method-latest"), ("v2", "method-v2")],
)
def test_names_that_mlflow_keeps_for_itself_are_not_used(method, alias):
    assert registry.alias(method) == alias
