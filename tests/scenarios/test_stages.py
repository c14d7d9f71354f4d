"""The stages of a run on a real study in miniature: fetch, prepare, train, evaluate."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from mmengine.config import Config
from mmseg.models import EncoderDecoder
from PIL import Image
from safetensors.torch import load_file

from pipelines.base.artifacts import read_json, sha256_file
from pipelines.base.errors import PipelineError
from pipelines.evaluate.stage import evaluate
from pipelines.fetch import stage as fetch
from pipelines.prepare import stage as prepare
from pipelines.running.progress import work_folder
from pipelines.study import RUN_STAGES
from pipelines.train import hooks
from pipelines.train import stage as train
from pipelines.train.runner import QuietRunner
from tests.pipelines import mini


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project with the study `mini` as working directory; a function prepares its data."""
    monkeypatch.chdir(tmp_path)
    mini.write_params(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The study `mini`, both of its runs trained and evaluated; the working directory is its."""
    folder = tmp_path_factory.mktemp("trained")
    before = Path.cwd()
    os.chdir(folder)
    mini.write_params(folder)
    study = mini.load()
    prepared(study)
    for run in study.runs:
        train.train(run)
        evaluate(run)
    yield study
    os.chdir(before)


def prepared(study):
    for dataset in study.datasets.values():
        fetch.fetch(dataset)
        prepare.prepare(dataset)
    return study


def named(study, method):
    return next(run for run in study.runs if run.method == method)


def test_prepare_writes_the_layout_and_an_account_of_it(project):
    dataset = prepared(mini.load()).datasets["mini"]
    info = read_json(dataset.info)
    assert info["counts"] == {"train": 12, "val": 4, "test": 5}
    assert sum(info["pixel_share"].values()) == pytest.approx(1)
    assert info["groups"]["head"][0] == "background"
    for kind, mode in (("images", "RGB"), ("labels", "P")):
        paths = sorted((dataset.prepared / kind / "test").iterdir())
        assert [path.name for path in paths] == [f"{index:05d}.png" for index in range(5)]
        with Image.open(paths[0]) as picture:
            assert (picture.mode, picture.size) == (mode, (32, 32))
    assert np.asarray(Image.open(dataset.prepared / "labels/test/00000.png")).max() <= 10


def test_prepare_again_gives_the_same_files(project):
    dataset = prepared(mini.load()).datasets["mini"]

    def files():
        paths = (path for path in dataset.prepared.rglob("*") if path.is_file())
        return {path: sha256_file(path) for path in paths if path.name != "runtime.json"}

    first = files()
    assert len(first) == 2 * (12 + 4 + 5) + 2
    prepare.prepare(dataset)
    assert files() == first


def test_prepare_refuses_data_with_another_digest(project):
    card = project / "params/datasets/mini.yaml"
    card.write_text(card.read_text().replace("{", '{"digests": {"val": "0000"},', 1))
    dataset = mini.load().datasets["mini"]
    fetch.fetch(dataset)
    with pytest.raises(PipelineError, match=r"mini.yaml: digests.val: expected 0000"):
        prepare.prepare(dataset)
    assert not dataset.receipt.exists()


def test_a_stage_without_its_input_names_the_command_that_makes_it(project):
    run = mini.load().runs[0]
    with pytest.raises(PipelineError, match=r"pipelines\.fetch --dataset mini"):
        prepare.prepare(run.dataset)
    with pytest.raises(PipelineError, match=r"pipelines\.prepare --dataset mini"):
        train.train(run)
    with pytest.raises(PipelineError, match=rf"pipelines\.train --study mini --run {run.name}"):
        evaluate(run)


def test_a_run_leaves_what_it_declares_and_no_scratch(trained):
    for run in trained.runs:
        for stage, files in RUN_STAGES.items():
            names = {path.name for path in run.folder(stage).iterdir()}
            assert names == {*files, "receipt.json", "runtime.json"}
            receipt = read_json(run.output(stage, "receipt.json"))
            for name, sha256 in receipt["outputs"].items():
                assert sha256_file(run.folder(stage) / name) == sha256
    assert not list(trained.work.rglob("*.pth"))


def test_method_and_baseline_start_alike_and_see_the_same_batches(trained):
    curves = {
        run.method: pd.read_csv(run.output("train", "curves.csv"), index_col="iteration")
        for run in trained.runs
    }
    first = {method: table["decode.loss_ce"].iloc[0] for method, table in curves.items()}
    assert first["baseline"] == first["sar"]
    assert curves["sar"]["sar.loss_aux_ce"].iloc[0] > 0
    assert list(curves["sar"].index) == [1, 2, 3, 4, 5, 6]
    assert curves["sar"]["mIoU"].dropna().index.tolist() == [3, 6]
    assert not {"time", "memory", "data_time"} & set(curves["sar"].columns)


def test_the_published_config_trains_and_names_no_place(trained):
    for run in trained.runs:
        config = Config.fromfile(run.output("train", "config.py"))
        assert config.train_cfg.max_iters == 6
        assert "work/" not in config.pretty_text


def test_published_weights_are_the_bare_models(trained):
    weights = {r.method: load_file(r.output("train", "weights.safetensors")) for r in trained.runs}
    assert weights["baseline"].keys() == weights["sar"].keys()
    assert any((weights["baseline"][k] != weights["sar"][k]).any() for k in weights["sar"])
    plugin = {r.method: load_file(r.output("train", "plugin.safetensors")) for r in trained.runs}
    assert plugin["baseline"] == {}
    assert "regularizer.semantic_anchors" in plugin["sar"]


def test_the_anchors_are_followed_through_training(trained):
    records = {
        r.method: load_file(r.output("train", "diagnostics.safetensors")) for r in trained.runs
    }
    assert records["baseline"].keys() == {"iteration"}
    assert records["sar"]["iteration"].tolist() == [1, 2, 3, 4, 5, 6]
    assert records["sar"]["regularizer.confidence"].shape == (6, 11)
    curves = pd.read_csv(named(trained, "sar").output("train", "curves.csv"))
    least = records["sar"]["regularizer.confidence"].amin(dim=1)
    np.testing.assert_allclose(curves["sar.min_confidence"], least, atol=1e-4)


def test_diagnostics_of_an_interrupted_training_are_cut_back(tmp_path):
    path = tmp_path / hooks.DiagnosticsHook.file
    lines = [json.dumps({"iteration": i, "values": {"x": [i, 0.5]}}) for i in (2, 4, 6)]
    path.write_text("\n".join(lines) + '\n{"iteration": 8, "val')
    hooks.DiagnosticsHook(interval=2).before_train(SimpleNamespace(work_dir=tmp_path, iter=4))
    kept = hooks.read_diagnostics(tmp_path)
    assert kept["iteration"].tolist() == [2, 4]
    assert kept["x"].tolist() == [[2, 0.5], [4, 0.5]]


def test_evaluation_counts_every_labelled_pixel_of_the_split_once(trained):
    run = trained.runs[0]
    confusion = pd.read_csv(run.output("evaluate", "confusion.csv"), index_col="truth")
    assert confusion.to_numpy().sum() == 5 * 32 * 32
    metrics = read_json(run.output("evaluate", "metrics.json"))
    assert metrics["split"] == "test" and metrics["num_images"] == 5
    with np.load(run.output("evaluate", "predictions.npz")) as kept:
        assert {name: (kept[name].shape, kept[name].dtype.name) for name in kept} == {
            f"{index:05d}": ((32, 32), "uint8") for index in range(5)
        }


def test_training_and_evaluating_again_gives_the_same_bytes(trained):
    run = named(trained, "sar")
    receipts = [run.output(stage, "receipt.json") for stage in RUN_STAGES]
    before = [path.read_bytes() for path in receipts]
    train.train(run)
    evaluate(run)
    assert [path.read_bytes() for path in receipts] == before


DIES_IN_ITERATION_3 = """
import os, signal, sys
from mmengine.hooks import CheckpointHook
from pipelines.train.__main__ import main

class Deadly(CheckpointHook):
    def after_train_iter(self, runner, *args, **kwargs):
        super().after_train_iter(runner, *args, **kwargs)
        if runner.iter == 2:
            os.kill(os.getpid(), signal.SIGKILL)

import mmengine.registry
mmengine.registry.HOOKS.register_module(name="CheckpointHook", module=Deadly, force=True)
sys.exit(main())
"""


def test_an_unfinished_training_is_found_again_after_a_default_is_spelled_out(project):
    run = prepared(mini.load()).runs[0]
    before = work_folder(run)
    study = project / "params/studies/mini.yaml"
    content = json.loads(study.read_text())
    study.write_text(json.dumps(content | {"image_scale": 1.0}))
    assert work_folder(mini.load().runs[0]) == before
    content["training"]["batch_size"] = 3
    study.write_text(json.dumps(content))
    assert work_folder(mini.load().runs[0]) != before


def test_a_killed_training_goes_on_from_its_last_checkpoint(trained):
    """Killed one iteration after a checkpoint, it ends with an uninterrupted run's weights."""
    run = named(trained, "sar")
    whole = run.output("train", "receipt.json").read_bytes()
    run.output("train", "receipt.json").unlink()
    arguments = ["--study", "mini", "--run", run.name]

    def python(*words: str) -> subprocess.CompletedProcess:
        environment = os.environ | {"PYTHONPATH": str(mini.ROOT)}
        command = [sys.executable, *words, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    killed = python("-c", DIES_IN_ITERATION_3)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in trained.work.rglob("*.pth")] == ["iter_2.pth"]
    assert not run.output("train", "receipt.json").exists()
    again = python("-m", "pipelines.train")
    assert again.returncode == 0, again.stderr
    assert "resumed from" in again.stdout + again.stderr
    assert run.output("train", "receipt.json").read_bytes() == whole


def test_channels_last_changes_the_order_in_memory_and_not_the_training(trained, monkeypatch):
    run = named(trained, "sar")
    plain = pd.read_csv(run.output("train", "curves.csv"))
    entry = run.entry.model_copy(update={"channels_last": True})
    other = dataclasses.replace(trained, name="nhwc", models={run.model: entry})
    ordered = []

    def watched(runner):
        original(runner)
        weight = runner.model.backbone.conv2.weight
        ordered.append(weight.is_contiguous(memory_format=torch.channels_last))

    original = QuietRunner.train
    monkeypatch.setattr(QuietRunner, "train", watched)
    train.train(named(other, "sar"))
    assert ordered == [True]
    curves = pd.read_csv(named(other, "sar").output("train", "curves.csv"))
    np.testing.assert_allclose(curves["loss"][0], plain["loss"][0], rtol=1e-5)
    np.testing.assert_allclose(curves["loss"], plain["loss"], rtol=1e-2)


def test_images_are_scaled_and_scores_are_those_of_the_labels_size(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    training = mini.study_file()["training"] | {"augmentation": {"crop_size": [12, 16]}}
    mini.write_params(tmp_path, image_scale=0.5, training=training)
    run = prepared(mini.load()).runs[0]
    shapes = set()
    forward = EncoderDecoder.extract_feat

    def watched(self, inputs):
        shapes.add(tuple(inputs.shape[2:]))
        return forward(self, inputs)

    monkeypatch.setattr(EncoderDecoder, "extract_feat", watched)
    train.train(run)
    assert shapes == {(12, 16), (16, 16)}  # crops, and whole images of the validation
    shapes.clear()
    evaluate(run)
    assert shapes == {(16, 16)}
    confusion = pd.read_csv(run.output("evaluate", "confusion.csv"), index_col=0)
    assert confusion.to_numpy().sum() == 5 * 32 * 32


def test_a_plugin_that_refuses_is_named(project):
    study = project / "params/studies/mini.yaml"
    study.write_text(
        study.read_text().replace('"label": "SAR",', '"label": "SAR", "options": {"pull": 1},')
    )
    run = named(prepared(mini.load()), "sar")
    with pytest.raises(PipelineError, match=r"methods\.sar\.plugin: sar\.mmseg:apply_sar refuses"):
        train.train(run)
