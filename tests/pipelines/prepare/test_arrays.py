"""Labels in NumPy files."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.prepare.arrays import read_array
from pipelines.prepare.faults import Unusable
from tests.pipelines.prepare.raw import truth


def saved(tmp_path, array, **options):
    np.save(tmp_path / "a.npy", array, **options)
    return tmp_path / "a.npy"


@pytest.mark.parametrize("kind", ["?", "u1", "i1", "<i2", ">i4", "u8", "f4", "f8"])
def test_whole_numbers_of_any_type_are_ids(tmp_path, kind):
    ids = truth() % 2 if kind == "?" else truth()
    read = read_array(saved(tmp_path, np.asfortranarray(ids.astype(kind))), 80)
    assert (read == ids).all() and read.dtype in (np.uint8, np.uint16)


def test_a_last_axis_of_one_is_none(tmp_path):
    assert (read_array(saved(tmp_path, truth()[..., None]), 80) == truth()).all()


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (truth().astype(np.int16) - 1, "other numbers than ids .*from -1 to 1"),
        (truth() / 2, "other numbers than ids"),
        (truth()[None], r"an array \(1, 8, 10\) of uint8; expected ids \(H, W\)"),
        (np.eye(3)[truth() % 3], r"\(8, 10, 3\) of float64; .* the ids are the argmax"),
        (np.array([[1j]]), "complex128; expected ids"),
        (np.array([["a"]]), "expected ids"),
        (np.zeros((9, 9)), "more than 80 pixels; source.max_pixels"),
        (np.zeros((0, 4)), "expected ids"),
    ],
)
def test_others_are_refused(tmp_path, array, reason):
    with pytest.raises(Unusable, match=reason):
        read_array(saved(tmp_path, array), 80 if array.ndim == 2 else 240)


def test_broken_files_and_objects_are_refused(tmp_path):
    path = saved(tmp_path, np.array([[{}]]), allow_pickle=True)
    with pytest.raises(Unusable, match="cannot be read"):
        read_array(path, 80)
    whole = saved(tmp_path, truth()).read_bytes()
    for content in (b"", b"nothing", whole[:-9], whole.replace(b"(8, 10)", b"(8, 1x)")):
        path.write_bytes(content)
        with pytest.raises(Unusable, match="cannot be read"):
            read_array(path, 80)
    np.savez(tmp_path / "z.npz", truth())
    (tmp_path / "z.npz").rename(path)
    with pytest.raises(Unusable, match="archive"):
        read_array(path, 80)
    with pytest.raises(Unusable, match="no such file"):
        read_array(tmp_path / "gone.npy", 80)
