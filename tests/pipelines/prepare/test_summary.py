from __future__ import annotations

from pipelines.base.class_groups import class_groups
from pipelines.prepare.summary import summary


def info(share: dict[str, float], images: dict[str, int]) -> dict:
    return {
        "classes": list(share),
        "counts": {"test": 9, "train": 40},
        "pixel_share": share,
        "image_count": images,
        "groups": class_groups(share),
    }


def test_counts_imbalance_and_rare_classes():
    share = {"road": 0.8, "car": 0.15, "pole": 0.04, "bird": 0.01}
    said = list(summary(info(share, {"road": 40, "car": 30, "pole": 9, "bird": 2})))
    assert said == [
        "images: train 40, test 9; classes: 4",
        "imbalance: road has 80 % of train's labelled pixels, bird 1 %: 80 to 1",
        "in fewer than 10 training images: bird (2), pole (9)",
        "the tail class, bird, has 1 % of the labelled pixels",
    ]


def test_large_ratios_are_written_out():
    said = list(summary(info({"a": 0.9998, "b": 0.0002}, {"a": 40, "b": 40})))
    assert said[1].endswith("4,999 to 1")


def test_a_class_that_train_lacks_is_no_imbalance():
    said = list(summary(info({"a": 0.75, "b": 0.25, "c": 0.0}, {"a": 40, "b": 40, "c": 0})))
    assert said[1:] == ["imbalance: a has 75 % of train's labelled pixels, b 25 %: 3 to 1"]
