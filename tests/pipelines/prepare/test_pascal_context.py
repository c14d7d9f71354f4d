"""Pascal-Context from either of its publications."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import mmseg
import numpy as np
import pytest
import scipy.io

from pipelines.base.errors import PipelineError
from pipelines.prepare.faults import Unusable
from pipelines.prepare.labels import read_label
from pipelines.prepare.masks import Masks, decode, paint
from pipelines.prepare.matlab import read_matrix
from pipelines.prepare.pascal_context import MATRIX, read_annotations
from pipelines.prepare.splits import find_all
from tests.pipelines.mini import ROOT
from tests.pipelines.prepare import upstream


@pytest.fixture(scope="module")
def card():
    from pipelines.study import read_params
    from pipelines.study.cards import DataCard

    return read_params(ROOT / "params/datasets/pascal_context.yaml", DataCard)


@pytest.fixture
def raw(tmp_path):
    """A function: the raw files with the labels of one publication; and what they say."""

    def publish(kind: str) -> tuple[Path, upstream.Truth]:
        files = tmp_path / kind
        truth = upstream.pascal_context(files)
        for path in (files / kind).iterdir():
            shutil.move(path, files)
        shutil.rmtree(files / "json")
        shutil.rmtree(files / "mat")
        return files, truth

    return publish


@pytest.mark.parametrize("kind", ["json", "mat"])
def test_both_publications_give_the_same_labels(raw, card, kind):
    files, truth = raw(kind)
    found = find_all(files, card.source)
    assert [faults for _, faults in found.values()] == [[], []]
    labels = {
        (split, pair.stem): read_label(files, pair.label, card)
        for split, (pairs, _) in found.items()
        for pair in pairs
    }
    assert labels.keys() == truth.keys()
    for key, label in labels.items():
        assert (label == truth[key]).all()
        assert {0, 1, 34, 49, 58, 255} == set(np.unique(label).tolist())


def test_the_ids_are_those_of_mmsegmentation_s_converter(card):
    converter = Path(mmseg.__file__).parent / ".mim/tools/dataset_converters/pascal_context.py"
    numbers = re.search(r"_mapping = np\.sort\(\s*np\.array\(\[([\d,\s]+)\]", converter.read_text())
    ids = sorted(int(number) for number in numbers.group(1).split(","))
    assert ids[0] == 0
    assert card.source.labels.mapping == {raw: index for index, raw in enumerate(ids[1:])}


def test_an_image_of_the_json_that_is_not_there_is_named(raw, card):
    files, _ = raw("json")
    (files / "VOCdevkit/VOC2010/JPEGImages/2008_000003.jpg").unlink()
    pairs, faults = find_all(files, card.source)["train"]
    assert [pair.stem for pair in pairs] == ["2008_000002", "2008_000007"]
    assert faults[0].file == "VOCdevkit/VOC2010/JPEGImages/2008_000003.jpg"


def test_a_size_beyond_the_limit_of_the_card_is_refused(tmp_path, card):
    masks = Masks("all.json", "a.jpg", (10**6, 10**6), ())
    with pytest.raises(Unusable, match="1000000 x 1000000 pixels.*source.max_pixels"):
        read_label(tmp_path, masks, card)


def test_later_masks_cover_earlier_ones():
    mask = np.zeros((4, 5), bool)
    mask[1:3, 1:4] = True
    codes = [
        upstream.annotation(0, 1, 9, np.ones((4, 5))),
        upstream.annotation(1, 1, 300, mask),
    ]
    parts = tuple((code["category_id"], code["segmentation"]["counts"]) for code in codes)
    masks = Masks("all.json", "a.jpg", (4, 5), parts)
    assert (paint((4, 5), decode(masks)) == np.where(mask, 300, 9)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "not the annotations of the Detail API"),
        (lambda text: "<html>", "not the annotations of the Detail API"),
        (lambda text: text.replace('"phase"', '"face"'), "phase"),
        (lambda text: text.replace('"height": 60', '"height": 61'), "one size"),
    ],
)
def test_a_broken_json_is_named(raw, change, message):
    files, _ = raw("json")
    path = files / "trainval_merged.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(PipelineError, match=message) as error:
        read_annotations(path)
    assert "trainval_merged.json" in str(error.value)


def test_a_broken_mat_file_is_refused(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"LabelMap": np.ones((4, 5), np.uint16)}, do_compression=True)
    assert read_matrix(path, MATRIX).tolist() == [[1] * 5] * 4
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"x" * 500):
        path.write_bytes(content)
        with pytest.raises(Unusable, match="cannot be read"):
            read_matrix(path, MATRIX)
    scipy.io.savemat(path, {"Other": np.ones(3)})
    with pytest.raises(Unusable, match="no LabelMap"):
        read_matrix(path, MATRIX)
    scipy.io.savemat(path, {"LabelMap": np.full((2, 2), 0.5)})
    with pytest.raises(Unusable, match="float64"):
        read_matrix(path, MATRIX)
