"""From raw ids and colours to class ids."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.prepare.faults import Unusable
from pipelines.prepare.labels import from_colours, from_index
from tests.pipelines.prepare.raw import PALETTE, card


def ids(raw, **labels) -> list[int]:
    return from_index(np.array([raw], dtype=np.uint16), card(labels=labels))[0].tolist()


def test_raw_ids_are_class_ids_where_the_card_says_nothing_else():
    assert ids([0, 2, 1]) == [0, 2, 1]


def test_ignored_ids_are_void():
    assert ids([0, 2, 11, 255], ignore=[11, 255]) == [0, 2, 255, 255]


def test_reduce_zero_makes_0_void_and_shifts_the_others():
    assert ids([0, 1, 3], reduce_zero=True) == [255, 0, 2]


def test_a_mapping_says_it_all():
    assert ids([7, 300, 8], mapping={7: 0, 300: 2}, ignore=[8]) == [0, 2, 255]
    assert ids([7, 300, 8], mapping={7: 0}, others="ignore") == [0, 255, 255]


@pytest.mark.parametrize(
    ("labels", "raw", "named"),
    [
        ({}, [0, 3, 3, 65535], "3 (2 pixels), 65535 (1 pixels)"),
        ({"reduce_zero": True}, [0, 4], "4 (1 pixels)"),
        ({"mapping": {7: 0}}, [7, 0], "0 (1 pixels)"),
        ({}, list(range(20)), "10 (1 pixels) and 9 more"),
    ],
)
def test_unknown_ids_are_named_with_their_pixels(labels, raw, named):
    with pytest.raises(Unusable, match="raw ids that the card does not know") as error:
        ids(raw, **labels)
    assert named in str(error.value)


def test_the_ignore_index_is_the_card_s():
    other = card(labels={"ignore": [9]}).model_copy(update={"ignore_index": 200})
    assert from_index(np.array([[9, 1]], np.uint8), other).tolist() == [[200, 1]]


def test_colours_are_those_of_the_palette():
    labels = {"encoding": "colour", "ignore_colours": [[1, 2, 3]]}
    raw = np.array([[PALETTE[2], PALETTE[0], [1, 2, 3]]], np.uint8)
    assert from_colours(raw, card(labels=labels)).tolist() == [[2, 0, 255]]


def test_a_colour_that_the_palette_lacks_is_named():
    labels = {"encoding": "colour"}
    raw = np.array([[PALETTE[0], [9, 8, 7], [9, 8, 7]]], np.uint8)
    with pytest.raises(Unusable, match=r"colours .* \[9, 8, 7\] \(2 pixels\)"):
        from_colours(raw, card(labels=labels))
    lenient = card(labels=labels | {"others": "ignore"})
    assert from_colours(raw, lenient).tolist() == [[0, 255, 255]]
