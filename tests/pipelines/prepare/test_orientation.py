"""One rule for the orientations of a data set."""

from __future__ import annotations

import pytest

from pipelines.prepare.orientation import Tagged, rule_for

WIDE, HIGH, SQUARE = (64, 48), (48, 64), (48, 48)


def pair(size, tag, label_size, label_tag=1, name="a.jpg"):
    return Tagged(name, size, tag, "a.png", label_size, label_tag)


TURNED = pair(WIDE, 6, HIGH)
STORED = pair(WIDE, 6, WIDE, name="b.jpg")
HALF = pair(WIDE, 3, WIDE, name="c.jpg")


@pytest.mark.parametrize(
    ("pairs", "rule"),
    [
        ([TURNED], "turn"),
        ([STORED], "ignore"),
        ([HALF, STORED, HALF], "ignore"),
        ([HALF, TURNED, pair(SQUARE, 6, SQUARE)], "turn"),
        ([pair(WIDE, 3, WIDE, 3)], "turn"),
        ([pair(WIDE, 6, WIDE, 6), pair(SQUARE, 2, SQUARE, 2)], "turn"),
        ([pair(WIDE, 1, HIGH, 8)], "turn"),
        ([pair(WIDE, 1, WIDE, 8)], "ignore"),
        ([pair(WIDE, 6, SQUARE)], "turn"),  # neither fits: a fault of its own, later
    ],
)
def test_the_sizes_that_tell_decide_for_all(pairs, rule):
    assert rule_for(pairs) == (rule, [])


@pytest.mark.parametrize(
    "open_pair", [HALF, pair(SQUARE, 6, SQUARE), pair(WIDE, 2, WIDE), pair(WIDE, 1, WIDE, 3)]
)
def test_where_no_size_tells_the_card_has_to(open_pair):
    _, [fault] = rule_for([open_pair, pair(WIDE, 3, WIDE, 3)])
    assert fault.fatal and fault.file == open_pair.image
    assert "expected source.exif in the card" in fault.reason


def test_sizes_that_contradict_each_other_are_both_named():
    _, [fault] = rule_for([HALF, TURNED, STORED])
    assert fault.fatal and fault.file == "a.jpg"
    assert "the label of b.jpg has the size that is stored" in fault.reason
    assert "source.exif" in fault.reason
