"""From raw ids and colours to class ids."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import ExifTags, Image

from pipelines.prepare.faults import Unusable
from pipelines.prepare.labels import from_colours, from_index, read_label, read_tagged
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


def indexed(ids: np.ndarray, palette: list[list[int]]) -> bytes:
    picture = Image.fromarray(ids.astype(np.uint8), mode="P")
    picture.putpalette([value for colour in palette for value in colour])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def read(tmp_path, content: bytes, name="a.png", **labels) -> list:
    (tmp_path / name).write_bytes(content)
    return read_label(tmp_path, name, card(labels=labels)).tolist()


OTHER_ORDER = [PALETTE[1], PALETTE[0], PALETTE[2]]
GREYS = [[2] * 3, [0] * 3, [1] * 3]
IDS = np.array([[0, 1, 2], [0, 0, 1]])


def test_indices_whose_palette_has_the_classes_in_their_order_are_ids(tmp_path):
    ramp = [[0] * 3, [127] * 3, [255] * 3]
    for palette in (list(PALETTE), [[0] * 3] * 3, [[1, 2, 3], [4, 5, 6], [7, 8, 9]], ramp):
        assert read(tmp_path, indexed(IDS, palette)) == IDS.tolist()


@pytest.mark.parametrize(
    ("ids", "palette", "told"),
    [
        (IDS, OTHER_ORDER, r"index 0 with the colour \[0, 200, 0\] of class 'tree'"),
        (IDS * 0, OTHER_ORDER, r"index 0 with the colour \[0, 200, 0\] of class 'tree'"),
        (IDS, GREYS, "index 0 with the grey 2"),
        (IDS, [[0] * 3, [2] * 3, [255] * 3], "index 1 with the grey 2"),
        (IDS, [[0] * 3, [1] * 3, [99] * 3], "index 2 with the grey 99"),
        (IDS, [[0] * 3, [2] * 3, [99] * 3], "index 1 with the grey 2"),
    ],
)
def test_indices_whose_palette_says_that_they_are_others_are_refused(tmp_path, ids, palette, told):
    labels = {"ignore": [255]}
    with pytest.raises(Unusable, match=f"{told}.*source.labels"):
        read(tmp_path, indexed(ids, palette), **labels)
    taken = read(tmp_path, indexed(ids, palette), palette="ignore", **labels)
    assert taken == ids.tolist()


def test_the_palette_is_compared_with_what_an_index_means(tmp_path):
    mapping = {0: 1, 1: 0, 2: 2}
    wanted = [[1, 0, 2], [1, 1, 0]]
    assert read(tmp_path, indexed(IDS, OTHER_ORDER), mapping=mapping) == wanted
    with pytest.raises(Unusable, match="another order"):
        read(tmp_path, indexed(IDS, list(PALETTE)), mapping=mapping)
    shifted = [[255, 0, 1], [255, 255, 0]]
    void_first = [[0, 0, 0], *PALETTE[:2]]
    assert read(tmp_path, indexed(IDS, void_first), reduce_zero=True) == shifted


@pytest.mark.parametrize("colours", [2, 3])
def test_what_a_paint_program_writes_is_read_by_its_colours(tmp_path, colours):
    ids = IDS % colours
    painted = Image.fromarray(np.array(PALETTE, np.uint8)[ids])
    for name, picture in (("a.gif", painted), ("a.png", painted.quantize(colours))):
        picture.save(tmp_path / name)
        content = (tmp_path / name).read_bytes()
        assert read(tmp_path, content, name, encoding="colour") == ids.tolist()
    with pytest.raises(Unusable, match="encoding: colour"):
        read(tmp_path, (tmp_path / "a.gif").read_bytes(), "a.gif")


@pytest.mark.parametrize("ids", [[0, 2, 1], [2, 2, 1], [1, 1, 1]])
def test_the_greys_of_a_gif_are_ids_whatever_their_indices(tmp_path, ids):
    Image.fromarray(np.array([ids], np.uint8)).save(tmp_path / "a.gif")
    assert read(tmp_path, (tmp_path / "a.gif").read_bytes(), "a.gif") == [ids]
    Image.fromarray(np.array([[*ids, 99]], np.uint8)).save(tmp_path / "a.gif")
    with pytest.raises(Unusable, match=r"raw ids that the card does not know: 99 \(1 pixels\)"):
        read(tmp_path, (tmp_path / "a.gif").read_bytes(), "a.gif")


def test_a_label_has_the_orientation_of_its_file(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    Image.fromarray(IDS.astype(np.uint8)).save(tmp_path / "a.png", exif=exif)
    stored, tag = read_tagged(tmp_path, "a.png", card())
    assert (stored.tolist(), tag) == (IDS.tolist(), 3)


def labelme(*shapes: tuple[str, list[list[int]]]) -> bytes:
    drawn = [{"label": n, "points": p, "shape_type": "rectangle"} for n, p in shapes]
    return json.dumps({"imageHeight": 2, "imageWidth": 4, "shapes": drawn}).encode()


def test_names_are_classes_by_the_card_and_the_rest_is_background(tmp_path):
    content = labelme(("tree", [[0, 0], [0, 1]]), ("Tanne", [[1, 0], [1, 0]]), ("?", [[3, 0]] * 2))
    labels = {"encoding": "labelme", "names": {"Tanne": "tree", "?": None}}
    named = read(tmp_path, content, "a.json", background="ground", **labels)
    assert named == [[1, 1, 0, 255], [1, 0, 0, 0]]
    assert read(tmp_path, content, "a.json", **labels)[1] == [1, 255, 255, 255]
    with pytest.raises(Unusable, match="the label 'Tanne', .* source.labels.names"):
        read(tmp_path, content, "a.json", encoding="labelme")
    lenient = read(tmp_path, content, "a.json", encoding="labelme", others="ignore")
    assert lenient == [[1, 255, 255, 255], [1, 255, 255, 255]]


def test_overlaps_are_what_the_card_says(tmp_path):
    content = labelme(("tree", [[0, 0], [2, 0]]), ("rare", [[1, 0], [3, 0]]))
    with pytest.raises(Unusable, match="2 pixels that two classes cover"):
        read(tmp_path, content, "a.json", encoding="labelme")
    for overlap, first in (("last", [1, 2, 2, 2]), ("ignore", [1, 255, 255, 2])):
        taken = read(tmp_path, content, "a.json", encoding="labelme", overlap=overlap)
        assert taken == [first, [255] * 4]


def test_arrays_and_codes_are_ids_like_those_of_images(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[7, 300]], np.int64))
    assert read(
        tmp_path,
        (tmp_path / "a.npy").read_bytes(),
        "a.npy",
        encoding="array",
        mapping={7: 2},
        ignore=[300],
    ) == [[2, 255]]
