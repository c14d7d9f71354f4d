from __future__ import annotations

import pytest

from pipelines.card.words import Affixes, find_affixes, folders_key, is_label, split_of


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("images/train/1.png", "train"),
        ("data/trainannot/1.png", "train"),
        ("train2017/1.png", "train"),
        ("valid/images/1.png", "val"),
        ("images_val/1.png", "val"),
        ("Testing/1.png", "test"),
        ("trainval/1.png", None),
        ("trains/1.png", None),
        ("contest/1.png", None),
        ("images/train_1.png", None),
    ],
)
def test_folders_name_splits(path, split):
    assert split_of(path) == split


def test_paths_speak_of_labels():
    assert all(map(is_label, ("a/1_mask.png", "trainannot/1.png", "gt/1.png", "x/1-GT.png")))
    assert not any(map(is_label, ("a/1.png", "length/1.png", "segway/1.png", "images/gtx.png")))


@pytest.mark.parametrize(
    ("images", "labels", "affixes"),
    [
        (["1", "2"], ["1", "2"], Affixes()),
        (["1", "2"], ["1_mask", "2_mask"], Affixes(after_label="_mask")),
        (["im_1", "im_2"], ["gt_1", "gt_2"], Affixes(before_image="im_", before_label="gt_")),
        (["1_sat", "2_sat"], ["1_mask", "2_mask"], Affixes("", "_sat", "", "_mask")),
        (["1", "2"], ["1_color", "1_ids", "2_color", "2_ids"], Affixes(after_label="_ids")),
        # 1 is in 11 too, but 11 has more in common.
        (["1", "11", "12"], ["m1", "m11", "m12"], Affixes(before_label="m")),
    ],
)
def test_affixes_are_what_all_names_have(images, labels, affixes):
    assert find_affixes([f"{n}.jpg" for n in images], [f"{n}.png" for n in labels]) == affixes


def test_folders_of_a_pair_are_equal_without_what_says_image_or_label():
    assert folders_key("train/images/a.png") == folders_key("train/masks/a.png") == ("train",)
    assert folders_key("leftImg8bit/val/ulm/a") == folders_key("gtFine/val/ulm/a")
    assert folders_key("train/a") == folders_key("trainannot/a") == folders_key("train_labels/a")
