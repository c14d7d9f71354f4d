"""The study that is written follows from the data, and is valid."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.base.errors import PipelineError
from pipelines.card.first_study import Facts, facts_of, study_text
from pipelines.study import Dataset, Study
from tests.pipelines import mini


@pytest.fixture
def facts(tmp_path, monkeypatch):
    mini.write_params(tmp_path)
    monkeypatch.chdir(tmp_path)
    counts = {"train": 367, "val": 101, "test": 233}
    return Facts(Dataset.load("mini"), mini.MODEL, "cpu", counts, Counter({(480, 360): 367}))


def written(facts: Facts, iterations: int = 100) -> Study:
    Path("params/studies/first.yaml").write_text(study_text(facts, iterations, "so: it is"))
    return Study.load("first")


def test_images_of_one_size(facts):
    study = written(facts)
    assert [method for method in study.file.methods] == ["baseline", "sar", "sar_without_pull"]
    assert study.file.image_scale == 0.5
    training = study.file.training
    assert training.augmentation.crop_size == [160, 160]
    assert training.augmentation.base_size is None
    assert training.batch_size == 8
    assert training.iterations == 100
    assert study.file.evaluation.split == "test"
    assert facts.wanted == 1835  # 40 times each of 367 images, 8 at once


def test_images_of_unequal_sizes_get_a_base_for_training_and_testing(facts):
    sizes = Counter({(800, 600): 3, (600, 800): 2})
    study = written(replace(facts, sizes=sizes, device="cuda"))
    assert study.file.training.augmentation.base_size == [800, 600]
    assert study.file.evaluation.base_size == [800, 600]
    assert study.file.training.augmentation.crop_size == [512, 512]
    assert study.file.image_scale == 1.0


@pytest.mark.parametrize(("images", "batch"), [(2, 2), (3, 2), (7, 4), (8, 8), (5000, 8)])
def test_few_images_make_small_batches(facts, images, batch):
    few = replace(facts, counts={"train": images, "val": 2})
    study = written(few, 20)
    assert study.file.training.batch_size == batch
    assert study.file.evaluation.split == "val"


def test_data_has_to_be_prepared(facts):
    with pytest.raises(PipelineError, match="run python -m pipelines.prepare --dataset mini"):
        facts_of(facts.dataset, mini.MODEL, "cpu", 3)


def test_data_without_a_split_to_test_on_is_refused(facts):
    card = facts.dataset.card
    info = {
        "classes": card.classes,
        "palette": card.palette,
        "ignore_index": 255,
        "pixel_share": dict.fromkeys(card.classes, 1 / 11),
        "groups": {},
        "counts": {"train": 3},
    }
    facts.dataset.info.parent.mkdir(parents=True)
    facts.dataset.info.write_text(json.dumps(info))
    with pytest.raises(PipelineError, match="expected test or val to measure on"):
        facts_of(facts.dataset, mini.MODEL, "cpu", 3)
