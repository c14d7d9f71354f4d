"""Which image belongs to which label."""

from __future__ import annotations

import pytest

from pipelines.prepare.pairs import Pair, find_pairs
from pipelines.study.cards import Pairs


@pytest.fixture
def found(tmp_path):
    """A function: `find_pairs` over empty files of the given names, and texts."""

    def find(names: list[str], texts: dict[str, str] | None = None, **spec):
        for name, text in dict.fromkeys(names, "").items() | (texts or {}).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(text.encode())
        return find_pairs(tmp_path, "train", Pairs(**spec))

    return find


def test_in_folders_a_label_has_the_stem_of_its_image(found):
    names = ["im/b.jpg", "im/a.JPEG", "im/notes.txt", "im/.hidden.png", "an/a.png", "an/b.tif"]
    pairs, faults = found(names, images="im", labels="an/")
    assert faults == []
    assert pairs == [Pair("a", "im/a.JPEG", "an/a.png"), Pair("b", "im/b.jpg", "an/b.tif")]


def test_what_a_star_matches_stands_in_the_label_too(found):
    city = "{kind}/train/{city}/{city}_{number}_{what}.png"
    names = [
        city.format(kind=kind, city=city_name, number=number, what=what)
        for city_name, number in (("aachen", "000"), ("bremen", "000"), ("bremen", "001"))
        for kind, what in (("left", "left"), ("fine", "ids"), ("fine", "color"))
    ]
    spec = {"images": "left/train/*/*_left.png", "labels": "fine/train/*/*_ids.png"}
    pairs, faults = found(names, **spec)
    assert faults == []
    assert [(p.stem, p.label) for p in pairs] == [
        ("aachen_000_left", "fine/train/aachen/aachen_000_ids.png"),
        ("bremen_000_left", "fine/train/bremen/bremen_000_ids.png"),
        ("bremen_001_left", "fine/train/bremen/bremen_001_ids.png"),
    ]


def test_a_star_stays_in_its_folder_and_other_signs_mean_themselves(found):
    names = ["a/x+1.png", "a/b/y+1.png", "a/xx1.png", "m/x.png"]
    pairs, faults = found(names, images="a/*+1.png", labels="m/*.png")
    assert (pairs, faults) == ([Pair("x+1", "a/x+1.png", "m/x.png")], [])


def test_images_and_labels_may_lie_in_one_folder(found):
    names = ["d/a.png", "d/a_mask.png", "d/b.png", "d/b_mask.png"]
    pairs, faults = found(names, images="d/*.png", labels="d/*_mask.png")
    assert faults == []
    assert [(p.image, p.label) for p in pairs] == [
        ("d/a.png", "d/a_mask.png"),
        ("d/b.png", "d/b_mask.png"),
    ]


def test_images_and_labels_without_the_other_are_faults(found):
    names = ["im/a.png", "im/b.png", "an/b.png", "an/c.png"]
    pairs, faults = found(names, images="im", labels="an")
    assert [pair.stem for pair in pairs] == ["b"]
    assert [(fault.file, fault.fatal) for fault in faults] == [
        ("im/a.png", False),
        ("an/c.png", False),
    ]
    assert "image without a label; expected an/a.png" in faults[0].reason
    assert "label without an image; expected im/c.png" in faults[1].reason


def test_two_labels_of_one_image_are_a_fault(found):
    pairs, faults = found(["im/a.png", "an/a.png", "an/a.tif"], images="im", labels="an")
    assert pairs == []
    assert "2 labels: an/a.png and an/a.tif" in faults[0].reason


@pytest.mark.parametrize(
    "text",
    [
        "b\na\n",
        "\ufeffb\r\na\r\n\r\n",
        "im/b.png\nim/a.png",
        "/published/im/b.png\n/published/im/a.png\n",
        "/published/im/b.png /published/an/b.png\n/published/im/a.png\t/published/an/a.png\n",
    ],
    ids=["stems", "from Windows", "paths", "with a beginning", "two columns"],
)
def test_a_list_chooses_the_images(found, text):
    names = [f"{kind}/{stem}.png" for kind in ("im", "an") for stem in "abc"]
    spec = {"images": "im", "labels": "an", "list": "list.txt", "strip": "/published/"}
    pairs, faults = found(names, {"list.txt": text}, **spec)
    assert faults == []
    assert pairs == [Pair(stem, f"im/{stem}.png", f"an/{stem}.png") for stem in "ab"]


def test_a_list_may_give_an_image_a_label_of_another_name(found):
    texts = {"l.txt": "im/a 1.png\nother/b.png an/z.png\n"}
    names = ["im/a 1.png", "an/a 1.png", "other/b.png", "an/z.png"]
    pairs, faults = found(names, texts, images="im", labels="an", list="l.txt")
    assert faults == []
    assert pairs == [
        Pair("a 1", "im/a 1.png", "an/a 1.png"),
        Pair("b", "other/b.png", "an/z.png"),
    ]


@pytest.mark.parametrize(
    ("text", "file", "reason"),
    [
        ("gone\n", "gone", "is not there, but l.txt, line 1 names it"),
        ("im/gone.png\n", "im/gone.png", "is not there, but l.txt, line 1 names it"),
        ("a an/gone.png\n", "an/gone.png", "is not there"),
        ("a\n\nlonely\n", "im/lonely.png", "image without a label; expected an/lonely.png"),
        ("/im/a.png\n", "l.txt, line 1", "strip takes away"),
        ("../a.png\n", "l.txt, line 1", "is not below files/"),
        ("im\\a.png\n", "l.txt, line 1", "has backslashes; expected /"),
        ("a\0\n", "l.txt", "zero bytes"),
        ("a b c\n", "l.txt, line 1", "has 3 columns"),
        ("a\nim/a.png\n", "l.txt, line 2", "twice"),
        ("an/a.png\n", "an/a.png", "is not among im"),
        ("\n", "l.txt", "gives split train no image"),
    ],
)
def test_faults_of_a_list_name_file_and_line(found, text, file, reason):
    names = ["im/a.png", "an/a.png", "im/lonely.png"]
    _, faults = found(names, {"l.txt": text}, images="im", labels="an", list="l.txt")
    assert [fault.file for fault in faults] == [file]
    assert reason in faults[0].reason


def test_a_stem_that_two_images_of_the_list_may_mean_names_both(found):
    names = ["im/x/a.png", "im/y/a.png", "an/x/a.png", "an/y/a.png"]
    spec = {"images": "im/*/*.png", "labels": "an/*/*.png", "list": "l.txt"}
    _, faults = found(names, {"l.txt": "a\n"}, **spec)
    assert "a may be im/x/a.png or im/y/a.png" in faults[0].reason


def test_where_stems_collide_all_are_named_by_their_paths(found):
    names = [f"{kind}/{path}.png" for kind in ("im", "an") for path in ("x/1", "y/1", "y/2")]
    pairs, faults = found(names, images="im/*/*.png", labels="an/*/*.png")
    assert faults == []
    assert [pair.stem for pair in pairs] == ["x__1", "y__1", "y__2"]


def test_names_that_collide_all_the_same_are_a_fault_that_names_both(found):
    names = ["im/a.png", "im/a.jpg", "an/a.png"]
    pairs, faults = found(names, images="im", labels="an")
    assert [pair.image for pair in pairs] == ["im/a.jpg"]
    assert (faults[0].file, faults[0].fatal) == ("im/a.png", True)
    assert "named a, like im/a.jpg" in faults[0].reason


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (["im/a.png"], {"an": "labels"}),
        (["an/a.png"], {"im": "images"}),
        ([], {"im": "images", "an": "labels"}),
    ],
)
def test_folders_that_are_not_there_are_named_with_their_keys(found, names, missing):
    _, faults = found(names, images="im", labels="an")
    assert {fault.file for fault in faults} == set(missing)
    for fault in faults:
        assert f"source.splits.train.{missing[fault.file]} expects some" in fault.reason
        assert fault.fatal


def test_a_list_that_is_not_there(found):
    _, faults = found(["im/a.png", "an/a.png"], images="im", labels="an", list="no.txt")
    assert (faults[0].file, faults[0].fatal) == ("no.txt", True)


def test_images_may_be_left_out_by_name(found):
    names = [f"{kind}/{name}.png" for kind in ("im", "an") for name in ("A_1", "A_2", "B_1")]
    pairs, faults = found(names, images="im", labels="an", without=["A_*"])
    assert ([pair.stem for pair in pairs], faults) == (["B_1"], [])
    pairs, faults = found(
        [], {"list.txt": "A_1\nB_1\n"}, images="im", labels="an", list="list.txt", without=["B_*"]
    )
    assert ([pair.stem for pair in pairs], faults) == (["A_1"], [])
    _, [fault] = found([], images="im", labels="an", without=["A_*", "C_*"])
    assert fault.fatal and "without: 'C_*' leaves out none" in fault.reason
