"""One definition of the scores: what a validation says is what evaluate says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from pipelines.base.artifacts import read_json
from pipelines.base.frames import read_csv
from pipelines.base.metrics import confusion_matrix, scores
from pipelines.evaluate.stage import evaluate
from pipelines.fetch.stage import fetch
from pipelines.prepare.stage import prepare
from pipelines.train.stage import train
from pipelines.train.validation import PresentClassesMetric
from tests.pipelines import mini


def of_validation(truth: np.ndarray, prediction: np.ndarray, classes: list[str]) -> dict:
    """What the metric says of images (N, H, W)."""
    metric = PresentClassesMetric(iou_metrics=["mIoU"], ignore_index=255)
    metric.dataset_meta = {"classes": classes}
    for true, predicted in zip(truth, prediction, strict=True):
        sample = {"pred_sem_seg": {"data": torch.from_numpy(predicted)}}
        metric.process({}, [sample | {"gt_sem_seg": {"data": torch.from_numpy(true)}}])
    return metric.evaluate(len(truth))


def test_a_few_pixels_taken_for_an_absent_class_do_not_halve_the_mean():
    truth = np.zeros((1, 100, 100), np.int64)
    prediction = truth.copy()
    prediction[0, 0, :4] = 1
    found = of_validation(truth, prediction, ["background", "building"])
    assert found == {
        "aAcc": pytest.approx(99.96),
        "mIoU": pytest.approx(99.96),
        "mAcc": pytest.approx(99.96),
    }


@pytest.mark.parametrize("present", [5, 3, 1])
def test_it_says_what_evaluate_says(present):
    rng = np.random.default_rng(present)
    truth = rng.integers(0, present, (4, 20, 30))
    prediction = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 5, truth.shape))
    truth[:, :3] = 255
    classes = list("abcde")
    expected = scores(confusion_matrix(truth, prediction, 5, 255), classes, {})
    found = of_validation(truth, prediction, classes)
    for name in ("mIoU", "mAcc", "aAcc"):
        assert found[name] == pytest.approx(expected[name], abs=0.00501), name


def test_where_all_classes_are_there_it_is_mmsegmentations_to_the_bit():
    from mmseg.evaluation import IoUMetric

    rng = np.random.default_rng(0)
    areas = [torch.from_numpy(rng.integers(1, 9**6, 7)).float() for _ in range(4)]
    ours = PresentClassesMetric.total_area_to_metrics(*areas, ["mIoU"], None, 1)
    theirs = IoUMetric.total_area_to_metrics(*areas, ["mIoU"], None, 1)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype and (ours[name] == value).all()


def test_the_curve_of_a_training_ends_where_evaluate_begins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # An untrained model takes pixels for any class.
    short = {"iterations": 1, "validation_interval": 1, "optimizer": {"type": "SGD", "lr": 1e-6}}
    training = mini.study_file()["training"] | short
    split = {"split": "val", "batch_size": 2, "gallery": 2}
    mini.write_params(tmp_path, training=training, evaluation=split)
    run = next(run for run in mini.load().runs if run.method == "baseline")
    fetch(run.dataset)
    prepare(run.dataset, jobs=1)
    train(run)
    evaluate(run)
    metrics = read_json(run.output("evaluate", "metrics.json"))
    confusion = pd.read_csv(run.output("evaluate", "confusion.csv"), index_col="truth")
    taken = [name for name in metrics["absent_classes"] if confusion[name].sum()]
    assert taken, "no pixel was taken for a class that the split lacks: nothing is tested"
    last = read_csv(run.output("train", "curves.csv")).dropna(subset=["mIoU"]).iloc[-1]
    for name in ("mIoU", "mAcc", "aAcc"):
        assert last[name] == pytest.approx(metrics[name], abs=0.00501), name
    # Whoever trains by the published config needs nothing of this project.
    assert "type='IoUMetric'" in run.output("train", "config.py").read_text()
