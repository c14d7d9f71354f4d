"""A checkpoint tested on a data set: as the run that it comes from, and without any study."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pipelines.base.artifacts import read_json, sha256_file
from pipelines.base.errors import PipelineError
from pipelines.configs.training import training_config
from pipelines.evaluate.__main__ import main
from pipelines.evaluate.kept import read
from pipelines.evaluate.stage import evaluate
from pipelines.fetch import stage as fetch
from pipelines.prepare import stage as prepare
from pipelines.running.progress import work_folder
from pipelines.study import RUN_STAGES, Study
from pipelines.train import stage as train
from pipelines.train.runner import QuietRunner, register
from sar.checkpoints import load_released
from sar.cli import main as sar
from sar.trained.bundle import write_bundle
from sar.trained.configs import from_config
from sar.trained.reading import read_trained
from tests.pipelines import mini
from tests.pipelines.receipts import vouch, vouch_drawn

SAME = ("metrics.json", "scores.json", "confusion.csv")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """SAR's run of `mini`, trained and evaluated at twice the images' size; the working directory.

    `last.pth` is the checkpoint that mmengine left of it, `run.safetensors` what `import` wrote.
    """
    folder = tmp_path_factory.mktemp("project")
    before = Path.cwd()
    os.chdir(folder)
    short = {"iterations": 2, "validation_interval": None}
    training = mini.study_file()["training"] | short
    mini.write_params(folder, image_scale=2.0, training=training)
    run = next(run for run in mini.load().runs if run.method == "sar")
    fetch.fetch(run.dataset)
    prepare.prepare(run.dataset)
    register(run)
    torch.set_num_threads(run.study.file.threads)  # Two round in another order than one.
    config = training_config(run, work_folder(run))
    QuietRunner.from_cfg(config).train()
    shutil.copy(work_folder(run) / "iter_2.pth", "last.pth")
    train.train(run)
    evaluate(run)
    weights = run.output("train", "weights.safetensors")
    assert sar(["import", str(weights), "-o", "run.safetensors"]) == 0
    yield run
    os.chdir(before)


def test(*arguments: str) -> int:
    return main(["--dataset", "mini", "--threads", "1", "-o", "out", *arguments])


test.__test__ = False  # A helper, whatever its name.


@pytest.fixture(autouse=True)
def _no_results(run):
    shutil.rmtree("out", ignore_errors=True)


@pytest.mark.parametrize("kind", ["weights of the run", "imported", "mmseg 1.x"])
def test_a_checkpoint_scores_as_its_run(run, kind, capsys):
    weights = run.output("train", "weights.safetensors")
    given = {
        "weights of the run": [str(weights)],
        "imported": ["run.safetensors"],
        "mmseg 1.x": ["last.pth", "--config", str(run.output("train", "config.py"))],
    }[kind]
    assert test("--checkpoint", *given, "--batch-size", "2") == 0
    metrics = read_json(run.output("evaluate", "metrics.json"))
    name = Path(given[0]).name
    assert f"{name} on mini: mIoU {metrics['mIoU']:.2f} % on test" in capsys.readouterr().out
    out = Path("out")
    assert {p.name for p in out.iterdir()} == {
        *RUN_STAGES["evaluate"],
        "receipt.json",
        "runtime.json",
    }
    for file in SAME:
        assert (out / file).read_bytes() == run.output("evaluate", file).read_bytes()
    # After two iterations all is background: what the model saw tells more than its scores.
    found, expected = read(out / "analysis.npz"), read(run.output("evaluate", "analysis.npz"))
    for values in ("pixels", "mean", "scatter", "weight", "anchors"):
        assert np.array_equal(getattr(found, values), getattr(expected, values), equal_nan=True)
    receipt = read_json(out / "receipt.json")
    assert receipt["subject"] == f"{name} on mini"
    assert receipt["inputs"] == {
        given[0]: sha256_file(Path(given[0])),
        run.dataset.receipt.as_posix(): sha256_file(run.dataset.receipt),
    }
    assert receipt["outputs"]["metrics.json"] == sha256_file(out / "metrics.json")


@pytest.mark.parametrize("kind", ["weights", "plugin", "imported", "mmseg 1.x"])
def test_one_nan_in_the_weights_is_an_error_that_names_the_tensor(run, kind, tmp_path, capsys):
    name = "regularizer.anchors" if kind == "plugin" else "backbone.conv1.weight"
    weights = run.output("train", "weights.safetensors")
    shutil.copytree(weights.parent, tmp_path / "train")
    given, broken, arguments = tmp_path / "train/weights.safetensors", None, []
    if kind == "imported":
        given = broken = tmp_path / "run.safetensors"
        bundle = read_trained("run.safetensors")
        bundle.weights[name].view(-1)[0] = float("nan")
        write_bundle(bundle, given)
    elif kind == "mmseg 1.x":
        given = broken = tmp_path / "last.pth"
        state = load_released("last.pth")
        state["state_dict"][name][0, 0, 0, 0] = float("nan")
        torch.save({"state_dict": state["state_dict"]}, given)
        arguments = ["--config", str(weights.with_name("config.py"))]
    else:
        broken = given.with_name("plugin.safetensors") if kind == "plugin" else given
        tensors = load_file(broken)
        tensors[name].view(-1)[0] = float("nan")
        save_file(tensors, broken)
        vouch(broken)
    assert test("--checkpoint", str(given), *arguments) == 2
    assert f"{broken}: NaN or infinite: {name} (1 of " in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_split_of_void_alone_has_no_score(run, capsys):
    """Prepare refuses such data; this may be that of an earlier version."""
    labels = run.dataset.prepared / "labels/test"
    whole = {path: path.read_bytes() for path in (*labels.iterdir(), run.dataset.receipt)}
    try:
        for path in labels.iterdir():
            with Image.open(path) as label:
                void = np.full_like(label, 255)
            Image.fromarray(void).save(path)
        vouch_drawn(run.dataset)
        assert test("--checkpoint", str(run.output("train", "weights.safetensors"))) == 2
        assert "labels/test: no labelled pixel in 5 images" in capsys.readouterr().err
    finally:
        for path, content in whole.items():
            path.write_bytes(content)


def test_a_run_whose_weights_hold_a_nan_is_not_evaluated(run):
    path = run.output("train", "weights.safetensors")
    whole = path.read_bytes()
    tensors = load_file(path)
    tensors["backbone.conv1.weight"].view(-1)[0] = float("nan")
    try:
        save_file(tensors, path)
        with pytest.raises(PipelineError, match=r"weights\.safetensors"):
            evaluate(run)
    finally:
        path.write_bytes(whole)


def test_a_model_entry_serves_as_config(run):
    weights = str(run.output("train", "weights.safetensors"))
    pixels = {}
    for kind, given in (("own", []), ("entry", ["--model", mini.MODEL])):
        assert test("--checkpoint", weights, "--split", "val", *given) == 0
        metrics = read_json(Path("out/metrics.json"))
        assert metrics["num_images"] == 4 and metrics["split"] == "val"
        pixels[kind] = read(Path("out/analysis.npz")).pixels.sum()
    # It knows nothing of the study's scale of the images, which the run's own config does.
    assert pixels["own"] == 4 * pixels["entry"] > 0


def test_a_published_config_says_at_what_size_images_are_tested(run):
    study = mini.study_file() | {"evaluation": {"base_size": [64, 48]}}
    study["training"] = study["training"] | {"validation_interval": None}
    Path("params/studies/fitted.yaml").write_text(json.dumps(study))
    fitted = Study.load("fitted").run(run.name)
    config = from_config(training_config(fitted, Path("work")), "config.py")
    assert config.image_steps == [{"type": "Resize", "scale": (64, 48), "keep_ratio": True}]
    assert config.imports == [] and config.classes[0] == "background"


def test_the_classes_have_to_be_those_of_the_data(run, capsys):
    bundle = read_trained("run.safetensors")

    def named(*classes: str) -> list[str]:
        write_bundle(dataclasses.replace(bundle, classes=list(classes)), Path("other.safetensors"))
        return ["--checkpoint", "other.safetensors"]

    assert test(*named(*bundle.classes[::-1])) == 2
    assert "its class 0 is '9', which is class 10" in capsys.readouterr().err
    assert test(*named("a", "b")) == 2
    assert "tells 2 classes apart" in capsys.readouterr().err
    assert not Path("out").exists()
    assert test(*named("ground", *bundle.classes[1:])) == 0
    assert "ground is taken for background" in capsys.readouterr().out


def test_data_of_another_card_is_refused(run, capsys):
    card = Path("params/datasets/mini.yaml")
    whole = card.read_text()
    card.write_text(whole.replace('"background"', '"ground"'))
    try:
        assert test("--checkpoint", "run.safetensors") == 2
    finally:
        card.write_text(whole)
    error = capsys.readouterr().err
    assert "made with other parameters than params/datasets/mini.yaml asks for now" in error
    assert "classes.0 was background, is ground" in error
    assert not Path("out").exists()


def test_damaged_weights_or_a_changed_config_are_refused(run, tmp_path, capsys):
    for name in ("weights.safetensors", "config.py", "receipt.json"):
        shutil.copy(run.output("train", name), tmp_path)
    for name in ("weights.safetensors", "config.py"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[:-4] + b"\n\n\n\n")
        assert test("--checkpoint", str(tmp_path / "weights.safetensors")) == 2
        assert f"{tmp_path / name}: was changed or damaged" in capsys.readouterr().err
        (tmp_path / name).write_bytes(whole)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "mini"], "--dataset: goes with --checkpoint"),
        (["--checkpoint", "last.pth", "-o", "out"], "expected --dataset with it"),
        (["--checkpoint", "last.pth", "--dataset", "mini"], "expected --output with it"),
        (
            ["--checkpoint", "last.pth", "--dataset", "mini", "-o", "out", "--run", "x"],
            "expected --run or --checkpoint",
        ),
        (
            ["--checkpoint", "last.pth", "--dataset", "mini", "-o", "last.pth"],
            "--output last.pth: expected a folder",
        ),
        (
            ["--checkpoint", "last.pth", "--dataset", "mini", "-o", "out", "--batch-size", "0"],
            "--batch-size 0: expected 1 or more",
        ),
        (["--checkpoint", "last.pth", "--dataset", "mini", "-o", "out"], "expected a config"),
        (["--checkpoint", "no.pth", "--dataset", "mini", "-o", "out"], "no.pth: no such file"),
        (["--checkpoint", "last.pth", "--dataset", "none", "-o", "out"], "none.yaml: no such file"),
    ],
)
def test_arguments_that_cannot_be_used_are_named(run, arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not Path("out").exists()
