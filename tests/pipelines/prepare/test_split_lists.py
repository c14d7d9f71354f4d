"""Split lists that are drawn by rule."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from PIL import Image

from pipelines.prepare import split_lists
from pipelines.prepare.split_lists import alike_to, draw, main, nearly_equal, thumbnail
from pipelines.study import Dataset
from tests.pipelines.mini import ROOT
from tests.pipelines.prepare import raw

SIZES = {"train": 60, "val": 10, "test": 30}


def drawn(seed: int = 0, alone: bool = True) -> tuple[np.ndarray, np.ndarray, dict]:
    random = np.random.default_rng(7)
    holds = random.random((100, 6)) < np.array([1.0, 0.5, 0.2, 0.1, 0.06, 0.05])
    holds[:5, 5] = True
    groups = np.arange(100) if alone else np.repeat(np.arange(50), 2)
    return holds, groups, draw(holds, groups, SIZES, seed)


@pytest.mark.parametrize("alone", [True, False])
def test_every_image_is_in_one_part_and_every_class_in_each(alone):
    holds, groups, parts = drawn(alone=alone)
    assert {name: len(images) for name, images in parts.items()} == SIZES
    assert sorted(chain(*parts.values())) == list(range(100))
    for images in parts.values():
        assert holds[images].any(axis=0).all()
        assert alone or (np.bincount(groups[images])[groups[images]] == 2).all()


def test_classes_are_shared_out_as_the_images_are():
    holds, _, parts = drawn()
    for name, images in parts.items():
        expected = holds.sum(axis=0) * SIZES[name] / 100
        assert np.abs(holds[images].sum(axis=0) - expected).max() <= 3


def test_a_seed_draws_the_same_again_and_another_another():
    assert drawn(1)[2] == drawn(1)[2] != drawn(2)[2]


@pytest.mark.parametrize(
    ("holds", "groups", "sizes", "message"),
    [
        (np.ones((3, 1), bool), [0, 1, 2], {"train": 2, "test": 2}, "4 images of 3"),
        (np.ones((4, 1), bool), [0, 0, 0, 1], {"train": 2, "test": 2}, "do not fit any part"),
        (np.eye(4, dtype=bool), [0, 1, 2, 3], {"train": 2, "test": 2}, "no image of class"),
    ],
)
def test_what_cannot_be_drawn_is_said(holds, groups, sizes, message):
    with pytest.raises(ValueError, match=message):
        draw(holds, np.array(groups), sizes, 0)


def test_sizes_may_be_what_is_aimed_at():
    groups = np.array([0] * 7 + [1, 2, 3])
    parts = draw(np.ones((10, 1), bool), groups, {"train": 6, "test": 4}, 0, exact=False)
    assert sorted(parts["train"] + parts["test"]) == list(range(10))
    assert any(set(range(7)) <= set(part) for part in parts.values())
    rare = np.array([[True, False]] * 3 + [[True, True]])
    parts = draw(rare, np.arange(4), {"train": 3, "test": 1}, 0, exact=False)
    assert 3 in parts["train"]


def test_images_that_are_alike_to_others_are_found_in_any_block(monkeypatch):
    monkeypatch.setattr(split_lists, "_BLOCK", 2)
    some = np.random.default_rng(0).random((5, 256))
    others = np.random.default_rng(1).random((3, 256))
    others[2] = 2 * some[4] + 1
    assert alike_to(some, others).tolist() == [False] * 4 + [True]
    assert nearly_equal(np.concatenate([some, others])).tolist().count(4) == 2


def test_nearly_equal_images_are_found_through_a_chain(tmp_path):
    smooth = np.kron(np.random.default_rng(0).integers(0, 200, (5, 4, 3)), np.ones((20, 20, 1)))
    pictures = [smooth, smooth * 0.9 + 20, raw.picture(5, (100, 80)), raw.picture(6, (100, 80))]
    small = []
    for index, pixels in enumerate(pictures):
        path = tmp_path / f"{index}.jpg"
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        small.append(thumbnail(Image.open(path)))
    found = nearly_equal(np.stack([*small, np.full(256, 9.0)]))
    assert found[0] == found[1] and len(set(found)) == 4
    steps = [[1, 0, 0, -1], [1, 0.4, -0.4, -1], [1, 0.9, -0.9, -1]]
    assert len(set(nearly_equal(np.array(steps)))) == 1
    assert len(set(nearly_equal(np.array(steps[::2])))) == 2


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    splits = {"train": {"images": "images", "labels": "labels", "list": "train.txt"}}
    dataset = raw.fetched(raw.card(splits))
    for index in range(8):
        raw.write(dataset, {f"images/{index}.png": raw.picture(index)})
        raw.write(dataset, {f"labels/{index}.png": raw.truth(index)})
    monkeypatch.setattr(Dataset, "load", lambda name: dataset)
    return dataset


def test_the_command_writes_lists_of_stems(fetched, tmp_path, capsys):
    assert main(["--dataset", "mine", "--sizes", "train=5", "test=3"]) == 0
    folder = tmp_path / "params/datasets/splits/mine"
    lists = {path.stem: path.read_text().splitlines() for path in folder.iterdir()}
    assert {name: len(stems) for name, stems in lists.items()} == {"train": 5, "test": 3}
    assert sorted(chain(*lists.values())) == [str(index) for index in range(8)]
    assert "  rare: 5 3" in capsys.readouterr().out
    assert main(["--dataset", "mine", "--sizes", "train=5"]) == 2
    assert "mine: the parts have 5 images of 8" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--dataset", "mine", "--sizes", "dev=5"])


def test_the_committed_lists_keep_photos_apart():
    folder = ROOT / "params/datasets/splits/ccp"
    lists = {path.stem: path.read_text().split() for path in folder.iterdir()}
    assert {name: len(stems) for name, stems in lists.items()} == {
        **{"train": 604, "val": 100, "test": 300}
    }
    assert sorted(chain(*lists.values())) == [f"{number:04d}" for number in range(1, 1005)]
    part = {stem: name for name, stems in lists.items() for stem in stems}
    alike = ("0078 0984", "0183 0730", "0197 0671", "0594 0722", "0692 0732", "0907 0990")
    for pair in alike:
        one, other = pair.split()
        assert part[one] == part[other]
