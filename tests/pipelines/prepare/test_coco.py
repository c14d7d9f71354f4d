"""COCO files."""

from __future__ import annotations

import json

import pytest

from pipelines.base.errors import PipelineError
from pipelines.prepare.coco import read_coco

BOX = [[1, 1, 5, 1, 5, 5, 1, 5]]


def content(**changes) -> dict:
    """Two images; categories with gaps between their ids."""
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "height": 12, "width": 16},
            {"id": 9, "file_name": "deep/b.png", "height": 12, "width": 16},
        ],
        "categories": [{"id": 3, "name": "tree"}, {"id": 90, "name": "rare"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "segmentation": BOX, "iscrowd": 0},
            {
                "id": 2,
                "image_id": 7,
                "category_id": 3,
                "segmentation": {"size": [12, 16], "counts": [190, 2]},
                "iscrowd": 1,
            },
        ],
    } | changes


@pytest.fixture
def read(tmp_path):
    """A function: what `read_coco` gives of such a content."""

    def _read(text: str | dict):
        text = text if isinstance(text, str) else json.dumps(text)
        (tmp_path / "all.json").write_text(text)
        return read_coco(tmp_path, "all.json")

    return _read


def test_each_image_has_its_masks_in_order_by_name(read):
    labels, faults = read(content())
    assert faults == []
    assert [name for name, _ in labels["a.png"].parts] == ["rare", "tree"]
    assert labels["a.png"].size == (12, 16)
    assert labels["deep/b.png"].parts == ()
    assert str(labels["a.png"]) == "all.json, a.png"


def test_a_broken_annotation_is_the_fault_of_its_image_alone(read):
    both = content()["annotations"]
    both[1] = both[1] | {"segmentation": {"size": [1, 2], "counts": [2]}}
    labels, [fault] = read(content(annotations=both))
    assert list(labels) == ["deep/b.png"]
    assert fault.file == "all.json, a.png" and "annotation 2 has run-lengths" in fault.reason


def test_an_image_of_a_size_that_no_image_has_is_a_fault(read):
    large = content()["images"][0] | {"height": 10**9, "width": 10**9}
    far = [[0, 0, 1e9, 0, 1e9, 1e9] * 1000]
    annotations = [content()["annotations"][0] | {"segmentation": far}]
    labels, [fault] = read(content(images=[large, content()["images"][1]], annotations=annotations))
    assert list(labels) == ["deep/b.png"]
    assert "a.png" in fault.file and "source.max_pixels" in fault.reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"categories": []}, "describes no categories"),
        ({"categories": [{"id": 3, "name": "a"}] * 2}, "2 categories have the id 3"),
        ({"categories": [{"id": 3, "name": "a"}, {"id": 90, "name": "a"}]}, "have the name 'a'"),
        ({"categories": [{"id": 3, "name": "tree"}]}, "annotation 1 has category_id 90"),
        ({"images": content()["images"][1:]}, "annotation 1 has image_id 7"),
        ({"images": [content()["images"][0]] * 2}, "2 images have the id 7"),
        (
            {"images": [content()["images"][0], content()["images"][1] | {"file_name": "a.png"}]},
            "2 images have the file_name 'a.png'",
        ),
        ({"images": [{"id": 7, "file_name": "a.png"}]}, "not a COCO file.*height"),
        ({"images": [content()["images"][0] | {"height": "12"}]}, "not a COCO file"),
        ({"images": [content()["images"][0] | {"file_name": "../a"}]}, "path below a folder"),
        ({"images": [content()["images"][0] | {"file_name": "/a"}]}, "path below a folder"),
        ({"images": [content()["images"][0] | {"file_name": 3}]}, "not a COCO file"),
        ({"images": [3]}, "not a COCO file"),
        ({"annotations": [{"image_id": 7}]}, "not a COCO file.*category_id"),
    ],
)
def test_what_contradicts_itself_is_an_error_with_the_file(read, change, reason):
    with pytest.raises(PipelineError, match=f"all.json: .*{reason}"):
        read(content(**change))


@pytest.mark.parametrize("text", ["", "{", "<html>", json.dumps(content())[:300], "[" * 100_000])
def test_what_is_no_json_is_an_error_with_the_file(read, text):
    with pytest.raises(PipelineError, match="all.json"):
        read(text)
