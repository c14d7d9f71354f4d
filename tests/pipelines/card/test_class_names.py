from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.io

from pipelines.card.class_names import find_names, is_void, read_names
from pipelines.prepare.faults import Unusable

TREE, CAR = 0x408040, 0x0A0B0C


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("label_colors.txt", "64 128 64\ttall tree\n10 11 12\tcar\n"),
        (
            "labelmap.txt",
            "# label:color_rgb:parts:actions\ntall tree:64,128,64::\ncar:10,11,12::\n",
        ),
        ("class_dict.csv", "name,r,g,b\ntall tree,64,128,64\ncar,10,11,12\n"),
        ("classes.json", json.dumps({"tall tree": [64, 128, 64], "car": [10, 11, 12]})),
        (
            "meta.json",
            json.dumps(
                {
                    "classes": [
                        {"title": "tall tree", "color": "#408040"},
                        {"title": "car", "color": "#0A0B0C"},
                    ]
                }
            ),
        ),
    ],
)
def test_names_with_colours(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    known, told = find_names([tmp_path])
    assert known.of_colour == {TREE: "tall tree", CAR: "car"}
    assert not told


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "3 tall tree\n5: car\n"),
        ("classes.txt", "tall tree, 3\ncar, 5\n"),
        ("classes.json", json.dumps({"3": "tall tree", "5": "car"})),
        ("classes.json", json.dumps({"tall tree": 3, "car": 5})),
        ("labels.json", json.dumps([{"id": 3, "name": "tall tree"}, {"id": 5, "name": "car"}])),
    ],
)
def test_names_with_ids(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert find_names([tmp_path])[0].of_id == {3: "tall tree", 5: "car"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("_classes.csv", "Pixel Value, Class\n3, tall tree\n5, car\n"),
        ("classes.tsv", "name\tid\tshare\ntall tree\t3\t0.1\ncar\t5\t0.2\n"),
        ("objectInfo2.txt", "Idx\tRatio\tTrain\tName\n3\t0.1\t664\ttall tree\n5\t0.2\t9\tcar\n"),
    ],
)
def test_names_in_a_table_with_ids(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    known, told = find_names([tmp_path])
    assert known.of_id == {3: "tall tree", 5: "car"}
    assert not told


@pytest.mark.parametrize(
    "names", [np.array([["null", "tall tree", "car"]], object), ["null", "tall tree", "car"]]
)
def test_names_in_a_matlab_file(tmp_path, names):
    """As a cell array, which savemat makes of objects, or as a matrix of characters."""
    path = tmp_path / "label_list.mat"
    scipy.io.savemat(path, {"label_list": names, "version": "by hand", "count": 3})
    known, told = find_names([tmp_path])
    assert known.names == ["null", "tall tree", "car"]
    assert known.source == "label_list.mat"
    assert not told


@pytest.mark.parametrize(
    ("variables", "match"),
    [
        ({"count": 3}, "has the lists of names none; expected one"),
        ({"a": ["x", "y"], "b": ["z", "w"]}, "lists of names a, b; expected one"),
        ({"a": np.array([["x", ""]], object)}, "has the name '' twice, or it is no name"),
    ],
)
def test_matlab_files_without_one_list_of_names(tmp_path, variables, match):
    scipy.io.savemat(tmp_path / "labels.mat", variables)
    with pytest.raises(Unusable, match=match):
        read_names(tmp_path / "labels.mat")
    (tmp_path / "labels.mat").write_bytes(b"MATLAB 5.0 no more")
    with pytest.raises(Unusable, match="cannot be read"):
        read_names(tmp_path / "labels.mat")


def test_names_alone_count_from_0_or_from_1(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("ground\ntree\n\nroute 66\n")
    known = read_names(path)
    assert known.names == ["ground", "tree", "route 66"]
    assert known.of_ids([0, 2, 255])[2] == "route 66"
    assert known.of_ids([0, 1, 3]) == {0: "background", 1: "ground", 2: "tree", 3: "route 66"}
    assert known.of_ids([0, 7]) == {}


def test_two_names_are_those_of_black_and_white(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("cell\n")
    assert read_names(path).of_ids([0, 255]) == {0: "background", 255: "cell"}


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("classes.txt", "tree\ntree\n", "twice"),
        ("classes.txt", "", "names no classes"),
        ("classes.json", "{", "is not JSON"),
        ("classes.json", "3", "no list"),
        ("classes.csv", "name,r,g,b\ntree,1,2\n", "is a table without"),
        ("classes.csv", "name,id\ntree,first\n", "is a table without"),
        ("label_colors.txt", "1 2 300 tree", "up to 255"),
    ],
)
def test_a_file_that_says_nothing_is_told_and_not_used(tmp_path, name, text, match):
    (tmp_path / name).write_text(text)
    with pytest.raises(Unusable, match=match):
        read_names(tmp_path / name)
    known, told = find_names([tmp_path])
    assert not known.names
    assert name in told[0]


def test_void_has_many_names():
    assert all(map(is_void, ("Void", "ignore", "unlabelled", "__ignore__", "Unknown")))
    assert not any(map(is_void, ("background", "avoided", "other")))
