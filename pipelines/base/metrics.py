"""Segmentation scores from one confusion matrix summed over a whole split.

All scores are in percent. A class without a labelled pixel in the split has no IoU and no accuracy
(None), is left out of every mean and is named in `absent_classes`.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np


def confusion_matrix(
    truth: np.ndarray, prediction: np.ndarray, num_classes: int, ignore_index: int
) -> np.ndarray:
    """Pixel counts (K, K), rows truth, columns prediction, over pixels that are not ignored.

    Args:
        truth, prediction: class ids of equal shape.

    Raises:
        ValueError: for unequal shapes, or a class id outside 0 .. K-1.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth has shape {truth.shape}, prediction {prediction.shape}")
    labelled = truth != ignore_index
    truth, prediction = truth[labelled].astype(np.int64), prediction[labelled].astype(np.int64)
    for name, ids in (("truth", truth), ("prediction", prediction)):
        if ids.size and not 0 <= ids.min() <= ids.max() < num_classes:
            raise ValueError(
                f"{name} holds class ids {ids.min()} to {ids.max()}, expected 0 to "
                f"{num_classes - 1} (or {ignore_index}, ignored)"
            )
    counts = np.bincount(num_classes * truth + prediction, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def scores(
    confusion: np.ndarray, classes: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """mIoU, mAcc, aAcc, per-class IoU and accuracy, and the mIoU of each group of classes.

    IoU of class k is TP / (TP + FP + FN) and its accuracy TP / (TP + FN), as in mmsegmentation's
    IoUMetric; the means are over classes that the split contains. There a class that it does not
    contain has IoU 0 as soon as one pixel is taken for it; `train.validation` has this definition.
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    hits, labelled = np.diag(confusion), confusion.sum(axis=1)
    present = labelled > 0
    union = labelled + confusion.sum(axis=0) - hits
    iou = np.divide(100 * hits, union, out=np.full(len(classes), np.nan), where=present)
    accuracy = np.divide(100 * hits, labelled, out=np.full(len(classes), np.nan), where=present)
    by_class = dict(zip(classes, iou, strict=True))
    return {
        "mIoU": _mean(iou),
        "mAcc": _mean(accuracy),
        "aAcc": float(100 * hits.sum() / labelled.sum()) if labelled.sum() else None,
        "IoU": {name: _value(value) for name, value in by_class.items()},
        "Acc": {name: _value(value) for name, value in zip(classes, accuracy, strict=True)},
        "groups": {
            group: {
                "classes": list(members),
                "mIoU": _mean(np.array([by_class[name] for name in members])),
            }
            for group, members in groups.items()
        },
        "absent_classes": [name for name, here in zip(classes, present, strict=True) if not here],
    }


class SubsetScores:
    """The scores of some of a split's images, for each of several patterns of their names.

    Args:
        patterns: by the subset's name.
        stems: names of all images of the split.

    Raises:
        ValueError: for a pattern that matches no image.
    """

    def __init__(self, patterns: Mapping[str, str], stems: Collection[str]) -> None:
        self._of_name = {
            name: {s for s in stems if fnmatch.fnmatchcase(s, each)}
            for name, each in patterns.items()
        }
        self._confusion: dict[str, Any] = dict.fromkeys(patterns, 0)
        for name, found in self._of_name.items():
            if not found:
                raise ValueError(f"{name}: no image is named like {patterns[name]!r}")

    def add(self, stem: str, confusion: np.ndarray) -> None:
        """Count the pixels (K, K) of one image."""
        for name, stems in self._of_name.items():
            if stem in stems:
                self._confusion[name] = self._confusion[name] + confusion

    @property
    def unlabelled(self) -> list[str]:
        """Subsets without a labelled pixel, which have no score."""
        return [name for name, counted in self._confusion.items() if not np.any(counted)]

    def scores(
        self, classes: Sequence[str], groups: Mapping[str, Sequence[str]]
    ) -> dict[str, dict[str, Any]]:
        """What `scores` says of each subset, and how many images it has."""
        return {
            name: {"num_images": len(stems), **scores(self._confusion[name], classes, groups)}
            for name, stems in self._of_name.items()
        }


def _mean(values: np.ndarray) -> float | None:
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else None


def _value(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
