"""Labels that are matrices in MATLAB files."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io

from pipelines.base.errors import PipelineError
from pipelines.prepare.faults import Unusable
from pipelines.prepare.matlab import read_matrix
from pipelines.prepare.stage import prepare
from tests.pipelines.prepare import raw

IDS = np.array([[0, 3], [7, 40000]], np.uint16)


@pytest.fixture
def saved(tmp_path):
    def save(**content):
        scipy.io.savemat(tmp_path / "a.mat", content)
        return tmp_path / "a.mat"

    return save


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float64])
def test_a_matrix_is_read_as_ids_whatever_its_type(saved, dtype):
    read = read_matrix(saved(truth=IDS.astype(dtype), other=np.ones(3)), "truth")
    assert read.dtype == np.uint16 and np.array_equal(read, IDS)


def test_a_field_of_a_structure(saved):
    path = saved(GTcls={"Segmentation": IDS, "inner": {"deep": IDS + 1}})
    assert np.array_equal(read_matrix(path, "GTcls.Segmentation"), IDS)
    assert np.array_equal(read_matrix(path, "GTcls.inner.deep"), IDS + 1)
    with pytest.raises(Unusable, match="no field x on the way to GTcls.inner.x"):
        read_matrix(path, "GTcls.inner.x")
    with pytest.raises(Unusable, match="no field x on the way to GTcls.inner.deep.x"):
        read_matrix(path, "GTcls.inner.deep.x")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.full((2, 2), 0.5), "float64 with other numbers than ids from 0 to 65535"),
        (np.array([[np.nan, 1.0]]), "other numbers than ids"),
        (np.array([[-1, 1]]), "other numbers than ids"),
        (np.array([[70000, 1]]), "other numbers than ids"),
        (np.ones((2, 2, 3), np.uint8), r"has a truth \(2, 2, 3\) of uint8; expected ids"),
        ("text", "has a truth .*; expected ids"),
        ({"a": IDS}, "has a truth .*; expected ids"),
    ],
)
def test_what_is_no_matrix_of_ids_is_refused(saved, value, message):
    with pytest.raises(Unusable, match=message):
        read_matrix(saved(truth=value), "truth")


def test_a_file_without_it_is_refused(saved, tmp_path):
    with pytest.raises(Unusable, match="holds no truth; it has labels, more"):
        read_matrix(saved(labels=IDS, more=IDS), "truth")
    with pytest.raises(Unusable, match="no such file"):
        read_matrix(tmp_path / "b.mat", "truth")
    newer = tmp_path / "newer.mat"
    newer.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    with pytest.raises(Unusable, match=r"cannot be read: .*v7.3"):
        read_matrix(newer, "truth")


def test_a_card_of_matrices_is_prepared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels = {"encoding": "matrix", "key": "truth", "mapping": {0: 0, 3: 1, 9: 2}, "ignore": [7]}
    dataset = raw.fetched(raw.card(labels=labels))
    ids = np.array([[0, 3, 9], [7, 9, 9]], np.uint8)
    for seed, split in enumerate(("train", "test")):
        raw.write(dataset, {f"images/{split}/a.png": raw.picture(seed, ids.shape)})
        path = dataset.raw / f"labels/{split}/a.mat"
        path.parent.mkdir(parents=True)
        scipy.io.savemat(path, {"truth": ids})
    raw.vouch(dataset)
    prepare(dataset, jobs=1)
    assert raw.prepared_label(dataset, "test", "a").tolist() == [[0, 1, 2], [255, 2, 2]]
    scipy.io.savemat(path, {"other": ids})
    raw.vouch(dataset)
    with pytest.raises(PipelineError, match=r"labels/test/a.mat: holds no truth; it has other"):
        prepare(dataset, jobs=1)


@pytest.mark.parametrize(
    "labels", [{"encoding": "matrix"}, {"key": "truth"}, {"encoding": "matrix", "key": "a b"}]
)
def test_the_key_goes_with_the_encoding(labels):
    with pytest.raises(ValueError, match="key"):
        raw.card(labels=labels)
