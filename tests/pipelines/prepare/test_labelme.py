"""Shapes of LabelMe files."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from pipelines.prepare.faults import Unusable
from pipelines.prepare.labelme import drawn, read_labelme


def in_text(mask: np.ndarray) -> str:
    picture = io.BytesIO()
    Image.fromarray(mask).save(picture, "PNG")
    return base64.b64encode(picture.getvalue()).decode()


SQUARE = in_text(np.ones((3, 3), bool))


def written(tmp_path, *shapes: dict, **changes):
    content = {"imageHeight": 12, "imageWidth": 16, "imagePath": "a.jpg", "shapes": list(shapes)}
    (tmp_path / "a.json").write_text(json.dumps(content | changes))
    return tmp_path / "a.json"


def masks(path) -> list[tuple[str, np.ndarray]]:
    size, shapes = read_labelme(path, 192)
    filled = drawn(size, [(index, shape) for index, (_, shape) in enumerate(shapes)])
    return [(shapes[index][0], mask) for index, mask in filled]


def test_the_shapes_that_have_an_area_are_filled_with_their_outlines(tmp_path):
    code = in_text(np.eye(3, dtype=bool))
    path = written(
        tmp_path,
        {"label": "block", "points": [[2, 1], [6, 1], [6, 4], [2, 4]], "shape_type": "polygon"},
        {"label": "rest", "points": [[9, 5], [7, 3]], "shape_type": "rectangle"},
        {"label": "disc", "points": [[10, 8], [12, 8]], "shape_type": "circle"},
        {"label": "old", "points": [[0, 0], [1, 0], [1, 1]]},
        {"label": "sam", "points": [[4, 6], [6, 8]], "shape_type": "mask", "mask": code},
    )
    found = dict(masks(path))
    rows, columns = np.mgrid[:12, :16]
    assert (found["block"] == ((columns >= 2) & (columns <= 6) & (rows >= 1) & (rows <= 4))).all()
    assert (found["rest"] == ((columns >= 7) & (columns <= 9) & (rows >= 3) & (rows <= 5))).all()
    assert found["disc"][8, 10] and found["disc"][8, 12] and not found["disc"][6, 8]
    assert 9 <= found["disc"].sum() <= 25
    assert found["old"].sum() == 3
    assert np.argwhere(found["sam"]).tolist() == [[6, 4], [7, 5], [8, 6]]


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ({"shape_type": "point", "points": [[1, 1]]}, "a point of 'x', which has no area"),
        ({"shape_type": "linestrip", "points": [[1, 1], [2, 2]]}, "has no area"),
        ({"shape_type": "polygon", "points": [[1, 1], [2, 2]]}, "polygon of 2 points"),
        ({"shape_type": "rectangle", "points": [[1, 1]]}, "rectangle of 1 points"),
        ({"shape_type": "polygon", "points": [[1, 1], [2, "a"], [3, 3]]}, "no pairs of numbers"),
        ({"shape_type": "polygon", "points": [[1, 1], [1e9, 2], [3, 3]]}, "far away"),
        ({"shape_type": "polygon"}, "no pairs of numbers|0 points"),
        ({"shape_type": "mask", "points": [[1, 1], [2, 2]], "mask": "AAAA"}, "cannot be read"),
        ({"shape_type": "mask", "points": [[1, 1], [2, 2]]}, "cannot be read"),
        ({"shape_type": "mask", "points": [[14, 1], [16, 3]], "mask": SQUARE}, "leaves the image"),
        ({"shape_type": "mask", "points": [[-1, 1], [2, 3]], "mask": SQUARE}, "leaves the image"),
    ],
)
def test_other_shapes_are_refused_by_name(tmp_path, shape, reason):
    with pytest.raises(Unusable, match=reason):
        masks(written(tmp_path, {"label": "x"} | shape))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "not a file of LabelMe"),
        (b"\xff\xfe", "not a file of LabelMe"),
        (b"[" * 100_000, "not a file of LabelMe"),
        (b"[]", "not a file of LabelMe"),
        (b'{"shapes": [1], "imageHeight": 2, "imageWidth": 2}', "not a file of LabelMe"),
        (b'{"shapes": [], "imageHeight": null, "imageWidth": 2}', "expected numbers"),
        (b'{"shapes": [], "imageHeight": 9999, "imageWidth": 9999}', "source.max_pixels"),
    ],
)
def test_what_is_no_labelme_file_is_refused(tmp_path, content, reason):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(Unusable, match=reason):
        masks(tmp_path / "a.json")
