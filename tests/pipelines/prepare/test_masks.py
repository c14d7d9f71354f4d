"""Masks that are laid one over the other, and the codes in which they come."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pycocotools import mask as coco

from pipelines.prepare.faults import Unusable
from pipelines.prepare.masks import DISPUTED, NOTHING, Masks, decode, paint, run_lengths

SIZE = (12, 16)


def square(top: int, left: int, side: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def shown(code: bytes) -> np.ndarray:
    [(_, mask)] = decode(Masks("all.json", "a.png", SIZE, ((1, code),)))
    return mask


def test_polygons_cover_the_pixels_that_coco_s_own_tools_fill():
    first, second = [2, 1, 9, 1, 9, 7, 2, 7], [10.5, 2.5, 15, 2.5, 12, 11]
    mask = shown(run_lengths([first, second], SIZE))
    assert mask[1:7, 2:9].all() and mask.sum() > 6 * 7
    assert not mask[:, :2].any() and not mask[7:, :9].any()


@pytest.mark.parametrize("compressed", [True, False])
def test_run_lengths_are_read_in_both_forms(compressed):
    wanted = square(2, 3, 5)
    if compressed:
        counts = coco.encode(np.asfortranarray(wanted.astype(np.uint8)))["counts"].decode()
    else:
        flat = np.concatenate([[False], wanted.ravel(order="F"), [False]])
        edges = np.flatnonzero(np.diff(flat.astype(int)))
        counts = np.diff([0, *edges.tolist(), wanted.size]).tolist()
    assert (shown(run_lengths({"size": list(SIZE), "counts": counts}, SIZE)) == wanted).all()


def test_every_whole_code_passes_and_none_that_is_cut():
    """COCO's decoder gives what happens to be in memory for the pixels that a code lacks."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        mask = np.asfortranarray(rng.random(SIZE) < rng.random())
        code = coco.encode(mask.view(np.uint8))["counts"]
        assert (shown(code) == mask).all()
        for broken in (code[:-1], code + code, b"", b"\xff" + code, b"o" * 9 + b"0"):
            with pytest.raises(Unusable, match="do not make 12 x 16 pixels"):
                shown(broken)


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        (None, "neither polygons nor run-lengths"),
        ([], "neither polygons nor run-lengths"),
        ([[1, 2, 3, 4]], "polygon of 2 points"),  # which COCO's tools would take for a box
        ([[1, 2, 3, 4, 5]], "no pairs of numbers"),
        ([["a", 2, 3, 4, 5, 6]], "no pairs of numbers"),
        ([[1, 2, 3, 4, 5, math.nan]], "far away"),
        ([[1, 2, 3, 4, 5, 1e12]], "far away"),
        ({"size": [16, 12], "counts": [192]}, r"size \[16, 12\]; expected \[12, 16\]"),
        ({"size": [12, 16], "counts": [191]}, "do not make"),
        ({"size": [12, 16], "counts": [200, -8]}, "do not make"),
        ({"size": [12, 16], "counts": None}, "do not make"),
        ({}, "size None"),
    ],
)
def test_what_is_no_mask_is_refused(segmentation, reason):
    with pytest.raises(Unusable, match=reason):
        run_lengths(segmentation, SIZE)


def test_an_outline_without_end_is_refused():
    star = [0, 0, 15000, 11000] * 1000
    with pytest.raises(Unusable, match="outline is longer than"):
        run_lengths([star], (12000, 16000))


def test_what_two_classes_cover_is_an_error_unless_the_card_says_what_it_is():
    parts = [(1, square(0, 0, 4)), (2, square(2, 2, 4)), (1, square(2, 2, 1))]
    with pytest.raises(Unusable, match="4 pixels that two classes cover, such as row 2, column 2"):
        paint(SIZE, parts, "error")
    last = paint(SIZE, parts, "last")
    assert (last[0, 0], last[2, 2], last[3, 3], last[5, 5], last[9, 9]) == (1, 1, 2, 2, NOTHING)
    void = paint(SIZE, parts, "ignore")
    assert (void[0, 0], void[2, 2], void[3, 3], void[5, 5]) == (1, DISPUTED, DISPUTED, 2)
    same = paint(SIZE, [(1, square(0, 0, 4)), (1, square(2, 2, 4))], "error")
    assert (same == 1).sum() == 28
