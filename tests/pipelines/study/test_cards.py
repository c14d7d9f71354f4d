"""Data cards of data in files: contradictions are named."""

from __future__ import annotations

import copy
import functools

import pytest
from pydantic import ValidationError

from pipelines.study import Dataset, read_params
from pipelines.study.cards import DataCard
from tests.pipelines.mini import ROOT
from tests.pipelines.prepare import raw


def test_the_splits_of_a_card_stand_in_their_order():
    splits = {s: {"images": f"im/{s}", "labels": f"an/{s}"} for s in ("test", "train")}
    assert raw.card(splits).splits == ["train", "test"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"mapping": {7: 0}, "ignore": [7]}, "raw id 7 stands in ignore and in mapping"),
        ({"mapping": {7: 0}, "reduce_zero": True}, "contradict each other"),
        ({"mapping": {7: 3}}, "source.labels.mapping.7 is 3, expected 0 to 2"),
        ({"encoding": "colour", "ignore": [7]}, "expected no raw ids"),
        ({"ignore_colours": [[1, 2, 3]]}, "ignore_colours goes with encoding: colour"),
        ({"encoding": "labelme", "mapping": {7: 0}}, "has names; expected no raw ids"),
        ({"encoding": "labelme", "background": "sea"}, "labels.background is 'sea', which is none"),
        ({"encoding": "labelme", "names": {"a": "sea"}}, "labels.names.a is 'sea', which is none"),
        ({"names": {"a": "tree"}}, "names, background and overlap go with coco, labelme"),
        ({"overlap": "last"}, "names, background and overlap go with coco, labelme"),
        ({"encoding": "colour", "palette": "ignore"}, "palette goes with encoding: index"),
        (
            {"encoding": "colour", "ignore_colours": [raw.PALETTE[1]]},
            r"\[0, 200, 0\] is the colour of two things",
        ),
    ],
)
def test_labels_that_contradict_themselves(labels, message):
    with pytest.raises(ValidationError, match=message):
        raw.card(labels=labels)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"images": "im/*.png", "labels": "an"}, "images has [*] and labels no star"),
        ({"images": "im/**/*.png", "labels": "an/*/*.png"}, r"has \*\* \* and labels \* \*"),
        ({"images": "im/**", "labels": "an/**"}, "expected the files' names after"),
        ({"images": "im/a**/*.png", "labels": "an/b**/*.png"}, "expected it between slashes"),
        ({"images": "im", "labels": "an/{class}"}, "goes with labels.encoding: class_masks"),
        ({"images": "im", "labels": "an", "strip": "/x/"}, "strip goes with list"),
        ({"images": "../im", "labels": "an"}, "below a folder"),
        ({"images": "/im", "labels": "an"}, "below a folder"),
    ],
)
def test_pairs_that_contradict_themselves(pairs, message):
    with pytest.raises(ValidationError, match=message):
        raw.card({"train": pairs})


@pytest.mark.parametrize(
    ("labels", "pattern", "message"),
    [
        ({"encoding": "coco"}, "an", "expected the COCO file, such as annotations/train.json"),
        ({"encoding": "class_masks"}, "an", "{class} in it goes with labels.encoding"),
    ],
)
def test_labels_lie_where_the_encoding_has_them(labels, pattern, message):
    with pytest.raises(ValidationError, match=message):
        raw.card({"train": {"images": "im", "labels": pattern}}, labels)


def test_there_has_to_be_a_train_split():
    with pytest.raises(ValidationError, match="splits has val; expected train"):
        raw.card({"val": {"images": "im", "labels": "an"}})


_URL = {"kind": "url", "file": "a.zip", "urls": ["https://a.org/a.zip"], "md5": "0" * 32}
_PARTS = {
    "archive": _URL,
    "repository": {
        **{"kind": "git", "url": "https://a.org/r", "folder": "f"},
        **{"commit": "1" * 40, "tree": "2" * 40},
    },
    "either": {
        "kind": "first_of",
        "parts": {"one": _URL | {"file": "b"}, "url": _URL | {"file": "c"}},
    },
}


@pytest.mark.parametrize(
    ("keys", "value", "valid"),
    [
        (("archive", "urls"), ["https://b.org/a.zip"], True),
        (("repository", "url"), "https://b.org/r", True),
        (("either", "parts", "url", "urls"), ["https://b.org/c"], True),
        (("archive", "md5"), "1" * 32, False),
        (("repository", "tree"), "3" * 40, False),
        (("either", "parts", "url", "md5"), "1" * 32, False),
    ],
)
def test_a_mended_address_leaves_all_work_valid_and_another_file_does_not(keys, value, valid):
    before = Dataset("made_up", raw.card(parts=_PARTS))
    parts = copy.deepcopy(_PARTS)
    functools.reduce(dict.__getitem__, keys[:-1], parts)[keys[-1]] = value
    after = Dataset("made_up", raw.card(parts=parts))
    assert after.card != before.card
    assert (after.parameters_hash("fetch") == before.parameters_hash("fetch")) is valid
    # Prepare sees the files alone, by the receipt of fetch.
    assert after.parameters_hash("prepare") == before.parameters_hash("prepare")


@pytest.mark.parametrize(
    ("subsets", "message"),
    [
        ({"one": {"split": "val", "images": "a_*"}}, "subsets.one.split is val; .* train, test"),
        ({"tail": {"split": "test", "images": "a_*"}}, "subsets.tail: mIoU/tail is another score"),
    ],
)
def test_subsets_that_cannot_be(subsets, message):
    card = raw.card().model_dump()
    with pytest.raises(ValidationError, match=message):
        DataCard.model_validate(card | {"subsets": subsets})


def test_what_does_not_change_the_files_leaves_prepared_data_valid():
    card = raw.card()
    before = Dataset("made_up", card)
    more = {
        "subsets": {"one": {"split": "test", "images": "a_*"}},
        "withheld_images": "they are secret",
    }
    source = card.source.model_dump() | {"downloads": "other"}
    after = Dataset(
        "made_up", DataCard.model_validate(card.model_dump() | {"source": source} | more)
    )
    for stage in ("fetch", "prepare"):
        assert after.parameters_hash(stage) == before.parameters_hash(stage)
    assert (before.shelf, after.shelf) == ("made_up", "other")


def test_camvid_is_tuned_on_a_sequence_that_its_training_there_has_not():
    card = read_params(ROOT / "params/datasets/camvid_tuning.yaml", DataCard)
    of_camvid = read_params(ROOT / "params/datasets/camvid.yaml", DataCard)
    assert card.splits == ["train", "val"] and card.source.downloads == "camvid"
    assert card.source.splits["train"].without == ["0006R0_*"]
    assert card.source.splits["val"].images == "CamVid/train/0006R0_*.png"
    assert (card.classes, card.palette) == (of_camvid.classes, of_camvid.palette)
    assert (card.source.parts, card.source.labels) == (
        *(of_camvid.source.parts, of_camvid.source.labels),
    )
