"""A card beside the weights: what it says is what the run's files say."""

import json
import os
from pathlib import Path

import pytest

from pipelines import model_card
from pipelines.base.artifacts import read_json, sha256_file
from pipelines.evaluate.stage import evaluate
from pipelines.fetch import stage as fetch
from pipelines.prepare import stage as prepare
from pipelines.train import stage as train
from tests.pipelines import mini


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of `mini`, trained with SAR and evaluated."""
    folder = tmp_path_factory.mktemp("cards")
    before = Path.cwd()
    os.chdir(folder)
    training = mini.study_file()["training"] | {"iterations": 2, "validation_interval": None}
    mini.write_params(folder, training=training)
    run = mini.load().run("mini/fcn_hrnet_tiny/sar/seed0")
    fetch.fetch(run.dataset)
    prepare.prepare(run.dataset)
    train.train(run)
    evaluate(run)
    yield run
    os.chdir(before)


def card_of(run, capsys):
    assert model_card.main(["--study", "mini", "--run", run.name]) == 0
    path = run.folder("train") / "MODEL_CARD.md"
    assert f"wrote {path}" in capsys.readouterr().out
    return path.read_text(encoding="utf-8")


def test_a_card_says_what_the_files_of_the_run_say(run, capsys):
    text = card_of(run, capsys)
    scores = read_json(run.output("evaluate", "metrics.json"))
    assert text.startswith("# ") and "for Mini scenes: SAR, seed 0" in text.splitlines()[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    for name in run.dataset.card.classes:
        iou, acc = scores["IoU"][name], scores["Acc"][name]
        shown = ["–" if value is None else f"{value:.2f}" for value in (iou, acc)]
        assert [name, *shown] in rows
    whole = [f"{scores[name]:.2f}" for name in ("mIoU", "mAcc", "aAcc")]
    assert whole in [row[:3] for row in rows]
    assert "12 train, 4 val, 5 test images" in text and "Licence: CC BY 4.0" in text
    assert sha256_file(run.output("train", "weights.safetensors")) in text
    facts = read_json(run.output("train", "runtime.json"))
    assert (facts["commit"] or "unknown") in text and facts["versions"]["torch"] in text
    assert "plugin: sar.mmseg:apply_sar" in text and "iterations: 2" in text
    assert f'sar.load("{run.folder("train").as_posix()}")' in text


def test_what_does_not_fit_writes_no_card(run, capsys):
    path = run.folder("train") / "MODEL_CARD.md"
    path.unlink(missing_ok=True)
    metrics = run.output("evaluate", "metrics.json")
    whole = metrics.read_text()
    metrics.write_text(json.dumps(read_json(metrics) | {"mIoU": 99.0}))
    assert model_card.main(["--study", "mini", "--run", run.name]) == 2
    assert "metrics.json" in capsys.readouterr().err and not path.exists()
    metrics.write_text(whole)
    assert model_card.main(["--study", "mini", "--run", "mini/fcn_hrnet_tiny/baseline/seed0"]) == 2
    assert "baseline/seed0/train" in capsys.readouterr().err


def test_names_that_are_more_than_text_are_inert(run):
    card = Path("params/datasets/mini.yaml")
    whole = card.read_text()
    card.write_text(json.dumps(json.loads(whole) | {"licence": "<script>alert(1)</script>"}))
    text = model_card.model_card(mini.load().run(run.name))
    assert "&lt;script>alert(1)" in text and "<script>" not in text
    card.write_text(whole)
