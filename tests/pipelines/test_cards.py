"""Data cards of data in files: contradictions are named."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tests.pipelines.preparing import raw


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
        ({"images": "im/*.png", "labels": "an"}, "1 [*] and labels 0"),
        ({"images": "im", "labels": "an", "strip": "/x/"}, "strip goes with list"),
        ({"images": "../im", "labels": "an"}, "below a folder"),
        ({"images": "/im", "labels": "an"}, "below a folder"),
    ],
)
def test_pairs_that_contradict_themselves(pairs, message):
    with pytest.raises(ValidationError, match=message):
        raw.card({"train": pairs})


def test_there_has_to_be_a_train_split():
    with pytest.raises(ValidationError, match="splits has val; expected train"):
        raw.card({"val": {"images": "im", "labels": "an"}})
