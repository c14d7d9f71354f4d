"""Data that cannot support a number: refused before anything is trained, or told."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from pipelines.base.artifacts import read_json
from pipelines.base.errors import PipelineError
from pipelines.prepare import stage
from tests.pipelines.prepare import raw

BINARY = re.escape("masks of 0 and 255 need mapping: {0: 0, 255: 1} under source.labels")


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def prepare(dataset, **options) -> None:
    """Prepare what lies there, whoever wrote it."""
    raw.vouch(dataset)
    stage.prepare(dataset, **options)


def lists(**stems: str) -> dict[str, dict]:
    return {split: {"images": "i", "labels": "l", "list": f"{split}.txt"} for split in stems}


def one_folder(card, **stems: str):
    """A data set of one folder of images, of which lists say in which splits they are."""
    dataset = raw.fetched(card)
    for index, stem in enumerate(sorted(set("".join(stems.values())))):
        raw.write(dataset, {f"i/{stem}.png": raw.picture(index), f"l/{stem}.png": raw.truth(index)})
    raw.write(dataset, {f"{split}.txt": "\n".join(names) for split, names in stems.items()})
    return dataset


def filled(value_of, **labels):
    """Two splits of two classes whose masks are what a function makes of ids 0 and 1."""
    dataset = raw.fetched(raw.card(labels=labels, classes=("ground", "block")))
    raw.two_splits(dataset, count=2)
    for path in (dataset.raw / "labels").rglob("*.png"):
        ids = np.asarray(Image.open(path)) % 2
        Image.fromarray(value_of(ids).astype(np.uint8)).save(path)
    return dataset


def refused(dataset) -> str:
    with pytest.raises(PipelineError) as error:
        prepare(dataset, jobs=1)
    return str(error.value)


def test_lists_that_overlap_are_refused():
    stems = {"train": "abc", "val": "cd", "test": "eaf"}
    dataset = one_folder(raw.card(lists(**stems)), **stems)
    said = refused(dataset)
    assert "2 faults" in said and "faulty: skip" not in said
    assert "val/c: has the pixels of train/c: " in said
    assert "test/a: has the pixels of train/a: " in said
    assert "allow: [shared_images]" in said
    assert not dataset.prepared.exists()


def test_a_copy_under_another_name_and_in_another_format_is_found():
    dataset = raw.fetched(raw.card())
    raw.two_splits(dataset)
    with Image.open(dataset.raw / "images/train/1.png") as image:
        image.save(dataset.raw / "images/test/other.bmp")
    raw.write(dataset, {"labels/test/other.png": raw.truth(77)})
    assert "test/other: has the pixels of train/1: " in refused(dataset)


def test_a_card_may_allow_shared_images_and_the_account_names_them(capsys):
    stems = {"train": "abc", "test": "bcd"}
    dataset = one_folder(raw.card(lists(**stems), allow=["shared_images"]), **stems)
    prepare(dataset, jobs=1)
    assert read_json(dataset.info)["shared_images"] == [
        ["train/b", "test/b"],
        ["train/c", "test/c"],
    ]
    said = capsys.readouterr().out
    assert "warning: mine: images of test with the pixels of images of train: 2\n" in said


def test_equal_images_of_one_split_are_left_alone():
    stems = {"train": "abc", "test": "d"}
    dataset = one_folder(raw.card(lists(**stems)), **stems)
    raw.write(dataset, {"i/b.png": raw.picture(0)})
    prepare(dataset, jobs=1)
    assert "shared_images" not in read_json(dataset.info)


@pytest.mark.parametrize(
    ("value_of", "labels", "message"),
    [
        (lambda ids: 255 * ids, {}, rf"raw ids .*: 255 \(27 pixels\); see source.labels; {BINARY}"),
        (
            lambda ids: 255 * ids,
            {"ignore": [255]},
            rf"'block': has no pixel in train, test.*{BINARY}",
        ),
        (lambda ids: 255 * ids, {"others": "ignore"}, rf"'block': has no pixel.*{BINARY}"),
        (lambda ids: ids, {"reduce_zero": True}, r"'block': has no pixel.*reduce_zero made \d+"),
        (lambda ids: ids + 1, {}, r"2 \(27 pixels\); see source.labels; .*reduce_zero: true"),
        (lambda ids: 0 * ids, {}, r"'block': has no pixel in train, test; take it out"),
    ],
    ids=["binary", "binary ignored", "others", "reduce_zero", "ids from 1", "one class"],
)
def test_masks_that_leave_a_class_empty_are_refused_with_the_mend(value_of, labels, message):
    assert re.search(message, refused(filled(value_of, **labels)))


def test_binary_masks_with_the_mapping_are_read():
    dataset = filled(lambda ids: 255 * ids, mapping={0: 0, 255: 1})
    prepare(dataset, jobs=1)
    assert read_json(dataset.info)["pixel_share"] == {"ground": 53 / 80, "block": 27 / 80}


def test_classes_without_a_pixel_are_named_together_and_void_alone_is_no_hint():
    classes = ("ground", "block", "ice", "lava")
    labels = {"others": "ignore"}
    dataset = raw.fetched(raw.card(labels=labels, classes=classes))
    raw.two_splits(dataset, count=2)
    for path in (dataset.raw / "labels").rglob("*.png"):
        ids = np.asarray(Image.open(path)) % 2
        ids[0] = 9
        Image.fromarray(ids.astype(np.uint8)).save(path)
    said = refused(dataset)
    assert "classes 'ice', 'lava': have no pixel in train, test, and" in said
    assert "0 and 255" not in said


def test_a_card_may_allow_classes_without_a_pixel(capsys):
    classes = (*raw.CLASSES, "never")
    dataset = raw.fetched(raw.card(classes=classes, allow=["absent_classes"]))
    raw.two_splits(dataset)
    prepare(dataset, jobs=1)
    assert "warning: mine: classes without a pixel in train: never\n" in capsys.readouterr().out
    dataset = raw.fetched(raw.card(classes=classes))
    assert "class 'never': has no pixel in train, test; take it out" in refused(dataset)


def test_a_class_that_train_alone_lacks_is_a_warning(capsys):
    dataset = raw.fetched(raw.card())
    raw.two_splits(dataset)
    for path in (dataset.raw / "labels/train").iterdir():
        Image.fromarray(np.minimum(np.asarray(Image.open(path)), 1)).save(path)
    prepare(dataset, jobs=1)
    assert "warning: mine: classes without a pixel in train: rare\n" in capsys.readouterr().out


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("allow", [[], ["shared_images", "absent_classes"]])
def test_a_split_of_void_alone_is_refused(split, allow):
    dataset = raw.fetched(raw.card(labels={"ignore": [9]}, allow=allow, faulty="skip"))
    raw.two_splits(dataset)
    for path in (dataset.raw / f"labels/{split}").iterdir():
        Image.fromarray(np.full((8, 10), 9, np.uint8)).save(path)
    said = refused(dataset)
    assert f"{split}: has no labelled pixel in 3 images" in said and "1 fault" in said
    assert "leave this split out of the card" in said


def test_what_was_left_out_is_counted_and_why_nothing_is_left_is_told(capsys):
    dataset = raw.fetched(raw.card(faulty="skip"))
    raw.two_splits(dataset)
    stray = raw.truth()
    stray[0, 0] = 7
    raw.write(dataset, {"labels/test/0.png": stray, "labels/test/2.png": stray})
    prepare(dataset, jobs=1)
    said = capsys.readouterr().out
    assert (
        "warning: mine: 2 files of test could not be used and were left out; images used: 1\n"
        in said
    )
    raw.write(dataset, {"labels/test/1.png": stray})
    said = refused(dataset)
    assert "test: has no image that can be used" in said
    assert said.count("raw ids that the card does not know: 7 (1 pixels)") == 3
