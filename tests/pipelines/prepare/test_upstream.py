"""Miniatures of data sets that need a download, with their real cards: from archive to score.

Only the addresses and checksums of the cards' parts are replaced.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from pipelines.base.artifacts import read_json
from pipelines.evaluate.stage import evaluate
from pipelines.fetch.stage import fetch
from pipelines.prepare.stage import prepare
from pipelines.study import Study
from pipelines.train.stage import train
from tests.pipelines import mini
from tests.pipelines.prepare import upstream
from tests.pipelines.prepare.archives import packed, served, with_addresses

pytestmark = pytest.mark.slow


def study_file(name: str) -> dict:
    training = mini.study_file()["training"] | {"iterations": 2, "validation_interval": 2}
    training["augmentation"] = {
        "scale_range": [0.5, 2.0],
        "base_size": [128, 64],
        "crop_size": [48, 64],
        "flip": 0.5,
    }
    evaluation = {"split": "val", "batch_size": 2, "gallery": 1}
    return mini.study_file() | {
        "datasets": [name],
        "training": training,
        "evaluation": evaluation,
    }


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A function: writes card and study of a data set, and fetches and prepares it."""
    root = tmp_path / "project"
    mini.write_params(root)
    monkeypatch.chdir(root)
    for variable in ("http_proxy", "HTTP_PROXY", "SAR_MIRROR"):
        monkeypatch.delenv(variable, raising=False)

    def start(name: str, archives: Path) -> Study:
        card = YAML(typ="safe").load(mini.ROOT / f"params/datasets/{name}.yaml")
        card["source"]["allow"] = ["absent_classes"]  # A miniature has but a few of them.
        with served(archives) as address:
            with_addresses(card["source"]["parts"], address, archives)
            YAML(typ="safe").dump(card, root / f"params/datasets/{name}.yaml")
            (root / "params/studies/mini.yaml").write_text(json.dumps(study_file(name)))
            study = Study.load("mini")
            fetch(study.datasets[name], allow_commands=True)
        prepare(study.datasets[name], jobs=1)
        return study

    return start


def trained_and_evaluated(study: Study) -> dict:
    """The scores of the method's run."""
    run = next(run for run in study.runs if run.method == "sar")
    train(run)
    evaluate(run)
    return read_json(run.output("evaluate", "metrics.json"))


def check_labels(study: Study, name: str, truth: upstream.Truth) -> None:
    folder = study.datasets[name].prepared / "labels"
    prepared = {(path.parent.name, path.stem): path for path in folder.glob("*/*.png")}
    assert prepared.keys() == truth.keys()
    for key, path in prepared.items():
        assert (np.asarray(Image.open(path)) == truth[key]).all()


def test_ade20k(project, tmp_path):
    truth = upstream.ade20k(tmp_path / "raw")
    archives = tmp_path / "archives"
    packed(tmp_path / "raw", ["ADEChallengeData2016"], archives / "ADEChallengeData2016.zip")
    study = project("ade20k", archives)
    check_labels(study, "ade20k", truth)
    info = read_json(study.datasets["ade20k"].info)
    assert info["counts"] == {"train": 3, "val": 2}
    assert info["suffixes"] == {"train": {".jpg": 2, ".png": 1}, "val": {".jpg": 2}}
    assert info["unequal_sizes"] == ["train", "val"]
    copied = "ADE_val_00000001.jpg"
    original = tmp_path / "raw/ADEChallengeData2016/images/validation" / copied
    prepared = study.datasets["ade20k"].prepared / "images/val" / copied
    assert prepared.read_bytes() == original.read_bytes()
    assert trained_and_evaluated(study)["num_images"] == 2


def test_cityscapes(project, tmp_path):
    truth = upstream.cityscapes(tmp_path / "raw")
    archives = tmp_path / "archives"
    for top in ("leftImg8bit", "gtFine"):
        packed(tmp_path / "raw", [top], archives / f"{top}_trainvaltest.zip")
    study = project("cityscapes", archives)
    check_labels(study, "cityscapes", truth)
    assert read_json(study.datasets["cityscapes"].info)["counts"] == {"train": 4, "val": 2}
    assert trained_and_evaluated(study)["num_images"] == 2


@pytest.mark.parametrize("publication", ["json", "mat"])
def test_pascal_context(project, tmp_path, publication):
    truth = upstream.pascal_context(tmp_path / "raw")
    archives = tmp_path / "archives"
    packed(tmp_path / "raw", ["VOCdevkit"], archives / "VOCtrainval_03-May-2010.tar")
    if publication == "json":
        text = (tmp_path / "raw/json/trainval_merged.json").read_text()
        (archives / "trainval_merged.json").write_text(text)
    else:
        packed(tmp_path / "raw/mat", ["trainval", "labels.txt"], archives / "trainval.tar.gz")
    study = project("pascal_context", archives)
    check_labels(study, "pascal_context", truth)
    info = read_json(study.datasets["pascal_context"].info)
    assert info["suffixes"] == {"train": {".jpg": 3}, "val": {".jpg": 1}}
    assert info["unequal_sizes"] == ["train"]
    if publication == "json":
        assert trained_and_evaluated(study)["num_images"] == 1
