"""Preparing data in files: what is written, what is told, and what stops it."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from pipelines.base.artifacts import read_json
from pipelines.base.errors import PipelineError
from pipelines.prepare.__main__ import main
from pipelines.prepare.stage import prepare
from tests.pipelines.prepare import raw


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outputs(dataset) -> dict[str, bytes]:
    folder = dataset.prepared
    return {n: (folder / n).read_bytes() for n in raw.below(folder) if n != "runtime.json"}


def test_it_writes_the_canonical_layout():
    dataset = raw.fetched(raw.card(labels={"ignore": [9]}))
    raw.two_splits(dataset)
    void = raw.truth()
    void[0, 0] = 9
    raw.write(dataset, {"images/train/0.png": raw.picture(5), "labels/train/0.png": void})
    prepare(dataset, jobs=1)
    assert raw.below(dataset.prepared) == sorted(
        ["info.json", "receipt.json", "runtime.json"]
        + [f"images/{split}/{stem}.png" for split in ("train", "test") for stem in "012"]
        + [f"labels/{split}/{stem}.png" for split in ("train", "test") for stem in "012"]
    )
    with Image.open(dataset.prepared / "images/train/0.png") as image:
        assert image.mode == "RGB"
        assert (np.asarray(image) == raw.picture(5)).all()
    label = raw.prepared_label(dataset, "train", "0")
    assert (label == np.where(void == 9, 255, void)).all()
    info = read_json(dataset.info)
    assert info.keys() == {
        *("classes", "palette", "ignore_index", "counts", "digests", "pixel_share", "groups"),
        *("image_count", "labelled_pixels"),
    }
    assert info["counts"] == {"train": 3, "test": 3}
    assert info["digests"].keys() == {"train", "test"}
    trees = sum((raw.prepared_label(dataset, "train", stem) == 1).sum() for stem in "012")
    assert info["pixel_share"]["tree"] == pytest.approx(trees / (3 * 80 - 1))
    assert sum(info["pixel_share"].values()) == pytest.approx(1)


def test_the_number_of_processes_changes_nothing():
    dataset = raw.fetched(raw.card())
    raw.two_splits(dataset, count=5)
    prepare(dataset, jobs=1)
    alone = outputs(dataset)
    prepare(dataset, jobs=2)
    assert outputs(dataset) == alone


def test_a_digest_is_that_of_pixels_and_names_not_of_compression():
    digests = []
    for level, name in ((1, "0"), (9, "0"), (9, "zero")):
        dataset = raw.fetched(raw.card(), name=f"mine{level}{name}")
        raw.two_splits(dataset, count=1)
        image = dataset.raw / "images/train/0.png"
        Image.open(image).save(image, compress_level=level)
        for kind in ("images", "labels"):
            path = dataset.raw / kind / "train/0.png"
            path.rename(path.with_stem(name))
        prepare(dataset, jobs=1)
        digests.append(read_json(dataset.info)["digests"]["train"])
    assert digests[0] == digests[1] != digests[2]


def test_jpeg_images_are_copied_and_others_become_rgb():
    dataset = raw.fetched(raw.card())
    raw.two_splits(dataset, count=1)
    size = (12, 10)
    pictures = {
        "images/train/a.JPEG": Image.fromarray(raw.picture(1, size)),
        "images/train/b.jpg": Image.fromarray(raw.picture(2, size)).convert("L"),
        "images/train/c.png": Image.fromarray(raw.picture(3, size)).convert("RGBA"),
    }
    labels = {f"labels/train/{stem}.png": raw.truth(1, size) for stem in "abc"}
    raw.write(dataset, pictures | labels)
    prepare(dataset, jobs=1)
    copied = dataset.prepared / "images/train/a.jpg"
    assert copied.read_bytes() == (dataset.raw / "images/train/a.JPEG").read_bytes()
    for stem in "bc":
        with Image.open(dataset.prepared / f"images/train/{stem}.png") as image:
            assert image.mode == "RGB"
    info = read_json(dataset.info)
    assert info["suffixes"] == {"train": {".jpg": 1, ".png": 3}}
    assert info["unequal_sizes"] == ["train"]


def test_all_faults_of_all_splits_are_told_at_once():
    dataset = raw.fetched(raw.card())
    raw.two_splits(dataset)
    whole = (dataset.raw / "images/train/1.png").read_bytes()
    raw.write(
        dataset,
        {
            "images/train/1.png": whole[: len(whole) // 2],
            "labels/train/2.png": np.full((8, 10), 77, np.uint8),
            "images/test/0.png": raw.picture(1, (9, 10)),
            "images/test/lonely.png": raw.picture(),
            "labels/test/lost.png": raw.truth(),
            "images/test/both.png": b"",
            "labels/test/both.png": b"",
        },
    )
    with pytest.raises(PipelineError) as error:
        prepare(dataset, jobs=1)
    text = str(error.value)
    assert "params/datasets/mine.yaml: source (data/raw/mine/files): 7 faults" in text
    for told in (
        "images/train/1.png: cannot be read",
        "labels/train/2.png: holds raw ids that the card does not know: 77 (80 pixels)",
        "images/test/0.png: has 10 x 9 pixels and its label 10 x 8",
        "images/test/lonely.png: is an image without a label; expected labels/test/lonely.png",
        "labels/test/lost.png: is a label without an image",
        "images/test/both.png: cannot be read",
        "labels/test/both.png: cannot be read",
        "source.faulty: skip",
    ):
        assert told in text
    assert not dataset.prepared.exists()
    assert [path.name for path in dataset.prepared.parent.iterdir()] == []


def test_many_faults_are_counted_and_twenty_are_named():
    dataset = raw.fetched(raw.card())
    raw.two_splits(dataset)
    raw.write(dataset, {f"images/train/no{i:02d}.png": raw.picture() for i in range(30)})
    with pytest.raises(PipelineError, match="30 faults") as error:
        prepare(dataset, jobs=1)
    lines = str(error.value).splitlines()
    assert len(re.findall("without a label", str(error.value))) == 20
    assert lines[-2].strip() == "and 10 more"


def test_faulty_pairs_may_be_left_out_and_are_named():
    dataset = raw.fetched(raw.card(faulty="skip"))
    raw.two_splits(dataset)
    raw.write(dataset, {"images/train/1.png": b"nothing", "labels/test/lost.png": raw.truth()})
    prepare(dataset, jobs=1)
    info = read_json(dataset.info)
    assert info["counts"] == {"train": 2, "test": 3}
    assert [one["file"] for one in info["skipped"]["train"]] == ["images/train/1.png"]
    assert "without an image" in info["skipped"]["test"][0]["reason"]
    assert raw.below(dataset.prepared / "labels/train") == ["0.png", "2.png"]


def test_a_split_without_an_image_stops_it_whatever_the_card_says():
    splits = {
        "train": {"images": "images/train", "labels": "labels/train"},
        "val": {"images": "images/val", "labels": "labels/val"},
        "test": {"images": "images/test", "labels": "labels/test", "list": "none.txt"},
    }
    dataset = raw.fetched(raw.card(splits, faulty="skip"))
    raw.two_splits(dataset)
    raw.write(dataset, {"none.txt": "\n"})
    with pytest.raises(PipelineError, match=r"images/val: no such files") as error:
        prepare(dataset, jobs=1)
    assert "none.txt: gives split test no image" in str(error.value)
    assert "faulty" not in str(error.value)


def test_a_split_of_which_no_image_can_be_used_stops_it():
    dataset = raw.fetched(raw.card(faulty="skip"))
    raw.two_splits(dataset, count=1)
    raw.write(dataset, {"images/test/0.png": b"nothing"})
    with pytest.raises(PipelineError, match="test: has no image that can be used"):
        prepare(dataset, jobs=1)


def test_training_data_without_a_labelled_pixel_stops_it():
    dataset = raw.fetched(raw.card(labels={"ignore": [9]}))
    raw.two_splits(dataset, count=1)
    raw.write(dataset, {"labels/train/0.png": np.full((8, 10), 9, np.uint8)})
    with pytest.raises(PipelineError, match="train: has no labelled pixel"):
        prepare(dataset, jobs=1)


def test_colours_become_class_ids():
    dataset = raw.fetched(raw.card(labels={"encoding": "colour"}))
    raw.two_splits(dataset, count=2)
    colours = np.array(raw.PALETTE, np.uint8)
    for path in (dataset.raw / "labels").rglob("*.png"):
        Image.fromarray(colours[np.asarray(Image.open(path))]).save(path)
    prepare(dataset, jobs=1)
    assert (raw.prepared_label(dataset, "train", "1") == raw.truth(15)).all()


def test_the_command_takes_a_number_of_processes(project, capsys):
    import json

    dataset = raw.fetched(raw.card())
    raw.two_splits(dataset, count=1)
    dataset.card_file.parent.mkdir(parents=True)
    dataset.card_file.write_text(json.dumps(dataset.card.model_dump(exclude_defaults=True)))
    assert main(["--dataset", "mine", "--jobs", "1"]) == 0
    assert dataset.receipt.is_file()
    assert main(["--dataset", "mine", "--jobs", "0"]) == 2
    assert "--jobs 0: expected 1 or more" in capsys.readouterr().err
