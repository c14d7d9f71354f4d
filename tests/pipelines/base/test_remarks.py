"""What is said of data that is not as it should be."""

from pipelines.base.remarks import remarks

GOOD = {"counts": {"train": 5, "test": 3}, "pixel_share": {"ground": 0.8, "tree": 0.2}}


def test_of_good_data_nothing_is_said():
    assert remarks(GOOD) == []


def test_what_is_left_out_shared_or_never_seen_is_said():
    said = remarks(
        {
            "counts": {"train": 5, "test": 1},
            "pixel_share": {"ground": 1.0, "tree": 0.0, "rare": 0.0},
            "skipped": {
                "train": [{"file": "a", "reason": "x"}, {"file": "b", "reason": "x"}],
                "test": [{"file": "c", "reason": "x"}],
            },
            "shared_images": [
                ["train/a", "test/b"],
                ["train/c", "val/c"],
                ["train/d", "test/d"],
            ],
        }
    )
    assert said == [
        "2 files of train could not be used and were left out; images used: 5",
        "1 file of test could not be used and was left out; images used: 1",
        "images of test with the pixels of images of train: 2",
        "images of val with the pixels of images of train: 1",
        "classes without a pixel in train: tree, rare",
    ]
