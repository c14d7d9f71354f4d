from __future__ import annotations

import numpy as np
import pytest

from pipelines.base.errors import PipelineError
from pipelines.card.divide import divide, near_copies


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 256))


def parts(images, thumbnails, holds=None, digests=None):
    count = len(images)
    holds = np.ones((count, 2), bool) if holds is None else holds
    division = divide(images, thumbnails, digests or [str(i) for i in range(count)], holds)
    flat = [place for own in division.parts.values() for place in own]
    assert len(set(flat)) == len(flat)
    return division


def test_many_images_give_three_parts_and_few_two():
    many = parts([f"{i:03d}.png" for i in range(40)], noise(40))
    assert {split: len(own) for split, own in many.parts.items()} == {
        "train": 28,
        "val": 4,
        "test": 8,
    }
    few = parts([f"{i:03d}.png" for i in range(10)], noise(10))
    assert {split: len(own) for split, own in few.parts.items()} == {"train": 7, "test": 3}


def test_nearly_equal_images_and_copies_stay_together():
    thumbnails = noise(12)
    thumbnails[1] = thumbnails[0] + 0.01
    digests = [str(i) for i in range(12)]
    digests[5] = digests[6]
    division = parts([f"{i:03d}.png" for i in range(12)], thumbnails, digests=digests)
    for one, other in ((0, 1), (5, 6)):
        assert any({one, other} <= set(own) for own in division.parts.values())
    assert "4 images are nearly equal" in division.told[1]


def test_folders_are_sequences():
    images = [f"patient{i // 4}/{i % 4}.png" for i in range(24)]
    division = parts(images, noise(24))
    for own in division.parts.values():
        whole = {images[place].split("/")[0] for place in own}
        assert len(own) == 4 * len(whole)


def test_numbered_photos_are_no_sequence():
    division = parts([f"IMG_{i}.png" for i in range(10)], noise(10))
    assert len(division.parts["test"]) == 3


def test_one_video_is_cut_into_blocks_in_the_order_of_numbers():
    drift = np.cumsum(0.02 * noise(40, 1), axis=0) + noise(1, 2)
    images = [f"frame{i}.png" for i in range(40)]
    division = parts(images, drift)
    assert division.parts["train"] == list(range(28))
    assert division.parts["test"] == list(range(32, 40))
    assert "seams" in division.told[0]


def test_rare_classes_are_in_train_first():
    holds = np.zeros((20, 3), bool)
    holds[:, 0] = True
    holds[3, 1] = holds[11, 2] = True
    division = parts([f"{i:03d}.png" for i in range(20)], noise(20), holds)
    assert {3, 11} <= set(division.parts["train"])


def test_copies_of_one_image_cannot_be_divided():
    with pytest.raises(PipelineError, match="the only image with a label"):
        divide(["a.png", "b.png"], noise(2), ["x", "x"], np.ones((2, 2), bool))


def test_nearly_equal_images_of_other_splits_are_counted():
    train, test = noise(5), noise(4, 1)
    test[2] = train[3] + 0.01
    assert near_copies({"train": train, "test": test}) == {("train", "test"): 1}
    assert near_copies({"train": train, "test": noise(4, 1)}) == {}
