"""A checkpoint tested on a data set: as the run that it comes from, and without any study."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipelines.base.artifacts import read_json, sha256_file
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
from sar.cli import main as sar
from sar.trained.bundle import write_bundle
from sar.trained.configs import from_config
from sar.trained.reading import read_trained
from tests.pipelines import mini

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
    assert "prepared from another card" in capsys.readouterr().err
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
