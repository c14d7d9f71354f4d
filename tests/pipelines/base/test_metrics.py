"""Scores against mmsegmentation's and torchmetrics' own, and classes that a split lacks."""

import numpy as np
import pytest
import torch

from pipelines.base.metric_names import headline
from pipelines.base.metrics import SubsetScores, confusion_matrix, scores

CLASSES = ["road", "car", "pole", "sign", "void-like"]
GROUPS = {"head": ["road", "car"], "mid": ["pole"], "tail": ["sign", "void-like"]}


def label_maps(num_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, num_classes, (3, 32, 40))
    prediction = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, num_classes, 1))
    truth[rng.random(truth.shape) < 0.1] = 255
    return truth, prediction


def summed(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    pairs = zip(truth, prediction, strict=True)
    return sum(confusion_matrix(t, p, num_classes, ignore_index=255) for t, p in pairs)


def test_scores_equal_mmsegmentations_iou_metric():
    from mmseg.evaluation import IoUMetric

    truth, prediction = label_maps(5)
    metric = IoUMetric(iou_metrics=["mIoU"])
    areas = [
        metric.intersect_and_union(torch.from_numpy(p), torch.from_numpy(t), 5, 255)
        for t, p in zip(truth, prediction, strict=True)
    ]
    theirs = metric.total_area_to_metrics(*(sum(a) for a in zip(*areas, strict=True)), ["mIoU"])
    ours = scores(summed(truth, prediction, 5), CLASSES, GROUPS)
    assert ours["mIoU"] == pytest.approx(100 * float(theirs["IoU"].mean()), abs=1e-4)
    assert ours["aAcc"] == pytest.approx(100 * float(theirs["aAcc"]), abs=1e-4)
    assert list(ours["IoU"].values()) == pytest.approx(100 * theirs["IoU"], abs=1e-4)
    assert list(ours["Acc"].values()) == pytest.approx(100 * theirs["Acc"], abs=1e-4)


def test_scores_equal_torchmetrics_and_scikit_learn_to_1e_6():
    from sklearn.metrics import confusion_matrix as their_matrix
    from sklearn.metrics import jaccard_score
    from torchmetrics.functional.classification import multiclass_jaccard_index

    truth, prediction = label_maps(5, seed=1)
    labelled = truth != 255
    matrix = summed(truth, prediction, 5)
    assert (matrix == their_matrix(truth[labelled], prediction[labelled])).all()
    ours = scores(matrix, CLASSES, GROUPS)
    sklearn_iou = jaccard_score(truth[labelled], prediction[labelled], average=None)
    assert list(ours["IoU"].values()) == pytest.approx(100 * sklearn_iou, abs=1e-6)
    torch_iou = multiclass_jaccard_index(
        torch.from_numpy(prediction).double().long(),
        torch.from_numpy(truth),
        num_classes=5,
        ignore_index=255,
        average=None,
    )
    assert list(ours["IoU"].values()) == pytest.approx(100 * torch_iou.numpy(), abs=1e-4)


def test_summing_over_images_is_not_averaging_over_images():
    truth = np.array([[[0, 0, 0, 0]], [[0, 1, 1, 1]]])
    prediction = np.array([[[0, 0, 0, 1]], [[0, 1, 1, 1]]])
    ours = scores(summed(truth, prediction, 2), ["a", "b"], {})
    assert ours["IoU"] == {"a": 100 * 4 / 5, "b": 100 * 3 / 4}
    assert ours["mIoU"] == pytest.approx((80 + 75) / 2)


def test_classes_absent_from_the_split_are_excluded_and_named():
    truth, prediction = np.array([[0, 0, 1, 1]]), np.array([[0, 0, 1, 2]])
    ours = scores(confusion_matrix(truth, prediction, 5, 255), CLASSES, GROUPS)
    assert ours["absent_classes"] == ["pole", "sign", "void-like"]
    assert ours["IoU"]["pole"] is None and ours["Acc"]["pole"] is None
    assert ours["mIoU"] == pytest.approx((100 + 50) / 2)
    assert ours["groups"]["head"]["mIoU"] == pytest.approx(75)
    assert ours["groups"]["mid"]["mIoU"] is None


def test_a_split_of_void_has_no_scores():
    truth = np.full((2, 2), 255)
    ours = scores(confusion_matrix(truth, np.zeros_like(truth), 5, 255), CLASSES, GROUPS)
    assert ours["mIoU"] is None and ours["aAcc"] is None
    assert ours["absent_classes"] == CLASSES


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        ([[0, 7]], [[0, 0]], "truth holds class ids 0 to 7, expected 0 to 4"),
        ([[0, 1]], [[0, 9]], "prediction holds class ids 0 to 9"),
        ([[0, 1]], [[0]], "truth has shape"),
    ],
)
def test_impossible_class_ids_are_errors(truth, prediction, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(np.array(truth), np.array(prediction), 5, 255)


def test_a_subset_is_scored_as_if_it_were_the_split():
    truth, prediction = label_maps(5)
    stems = ["A_1", "B_1", "A_2"]
    subsets = SubsetScores({"a": "A_*", "b": "B_?"}, stems)
    for stem, one, other in zip(stems, truth, prediction, strict=True):
        subsets.add(stem, confusion_matrix(one, other, 5, 255))
    found = subsets.scores(CLASSES, GROUPS)
    of_a = scores(summed(truth[::2], prediction[::2], 5), CLASSES, GROUPS)
    assert found["a"] == {"num_images": 2, **of_a}
    assert found["b"] == {
        "num_images": 1,
        **scores(summed(truth[1:2], prediction[1:2], 5), CLASSES, GROUPS),
    }
    whole = scores(summed(truth, prediction, 5), CLASSES, GROUPS)
    shown = headline(whole | {"subsets": found})
    assert shown == headline(whole) | {f"mIoU/{name}": found[name]["mIoU"] for name in "ab"}
    assert subsets.unlabelled == []
    subsets = SubsetScores({"a": "A_*", "b": "B_?"}, stems)
    for stem, one, other in zip(stems, truth, prediction, strict=True):
        one = np.full_like(one, 255) if stem.startswith("B") else one
        subsets.add(stem, confusion_matrix(one, other, 5, 255))
    assert subsets.unlabelled == ["b"]
    with pytest.raises(ValueError, match=r"c: no image is named like 'C_\*'"):
        SubsetScores({"c": "C_*"}, stems)
