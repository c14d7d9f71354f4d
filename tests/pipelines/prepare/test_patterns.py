"""Which files a folder or a pattern stands for."""

from __future__ import annotations

import unicodedata

import pytest

from pipelines.prepare.patterns import below, expected, left_out, matches


@pytest.fixture
def files(tmp_path):
    """A function: empty files of the given names, and their folder."""

    def write(*names: str):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return write


def test_two_stars_stand_for_folders_none_among_them(files):
    names = ["a/4.png", "a/b/c/3.png", "a/b/2.png", "a/.git/1.png", "a/b/.hidden.png", "a/x.txt"]
    found = matches(files(*names), "a/**/*.png")
    assert found == {"a/4.png": ("", "4"), "a/b/2.png": ("b/", "2"), "a/b/c/3.png": ("b/c/", "3")}
    assert [expected("m/**/*_ids.png", key) for key in found.values()] == [
        "m/4_ids.png",
        "m/b/2_ids.png",
        "m/b/c/3_ids.png",
    ]


def test_two_stars_may_stand_in_the_middle(files):
    names = ["x/in/a/y/1.png", "x/in/y/2.png", "x/in/a/b/y/3.png", "x/in/a/y/z/4.png"]
    found = matches(files(*names), "x/*/**/y/*.png")
    assert list(found) == ["x/in/a/b/y/3.png", "x/in/a/y/1.png", "x/in/y/2.png"]


def test_of_a_suffix_case_does_not_count_of_a_name_it_does(files):
    found = matches(files("a/x.JPG", "a/y.jpg", "a/Z_1.jpg", "a/z_1.png"), "a/*.jpg")
    assert list(found) == ["a/Z_1.jpg", "a/x.JPG", "a/y.jpg"]
    assert list(matches(files(), "a/z_*.jpg")) == []


def test_links_are_followed_and_those_that_lead_back_are_not(files):
    root = files("a/x/1.png", "b/2.png")
    (root / "a/x/up").symlink_to(root / "a", target_is_directory=True)
    (root / "a/b").symlink_to(root / "b", target_is_directory=True)
    assert list(matches(root, "a/**/*.png")) == ["a/b/2.png", "a/x/1.png"]


def test_brackets_and_question_marks_mean_themselves(files):
    found = matches(files("a[1]/x?.png", "a1/x?.png", "a[1]/xy.png"), "a[1]/*?.png")
    assert list(found) == ["a[1]/x?.png"]


@pytest.mark.parametrize("pattern", ["köln/*.png", "köln"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_both_forms_of_a_name_are_one(files, pattern, form):
    root = files(unicodedata.normalize(form, "köln/é.png"))
    assert list(matches(root, pattern).values()) == [("é",)]


def test_other_files_of_a_folder_are_counted_and_those_deeper_are_named(files):
    root = files("a/1.png", "a/2.PNG", "a/n.txt", "a/o.txt", "a/raw", "a/b/3.png", "a/b/n.txt")
    assert left_out(root, "a", {".png"}) == {".txt": 2, "no suffix": 1}
    assert left_out(root, "a/*.png", {".png"}) == {}
    assert below(root, "a", {".png"}) == ["a/b/3.png"]
