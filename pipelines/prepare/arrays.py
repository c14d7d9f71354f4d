"""Labels in NumPy files, and arrays of any type as raw ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipelines.prepare.faults import Unusable


def as_ids(array: np.ndarray, what: str = "values") -> np.ndarray:
    """Raw ids (H, W) of whole numbers of whatever type; bytes stay uint8, others become uint16.

    Raises:
        Unusable: for an array of another shape, or with other numbers than 0 to 65535.
    """
    if array.ndim != 2 or array.dtype.kind not in "buif" or not array.size:
        mend = ""
        if array.ndim == 3 and array.dtype.kind in "buif":
            mend = "; of a plane a class the ids are the argmax over these"
        raise Unusable(f"has {what} {array.shape} of {array.dtype}; expected ids (H, W){mend}")
    if array.dtype in (np.bool_, np.uint8):
        return array.astype(np.uint8)
    with np.errstate(invalid="ignore"):
        ids = array.astype(np.uint16)
    if not np.array_equal(ids, array):
        raise Unusable(
            f"has {what} of {array.dtype} with other numbers than ids from 0 to 65535 "
            f"(from {array.min():g} to {array.max():g}); give void an id of its own, such as 255"
        )
    return ids


def read_array(path: Path, max_pixels: int) -> np.ndarray:
    """The ids (H, W) of a .npy file, also where it holds them as (H, W, 1).

    Raises:
        Unusable: when the file cannot be read, or holds something else.
    """
    try:
        # Mapped, so that a header alone cannot ask for memory; objects would run code.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise Unusable("no such file") from None
    except Exception as error:  # on broken headers NumPy raises anything, down to SyntaxError
        raise Unusable(f"cannot be read: {error}") from error
    if not isinstance(array, np.ndarray):
        raise Unusable("is an archive of arrays; expected one array (.npy)")
    if array.size > max_pixels:
        raise Unusable(
            f"has an array {array.shape}, more than {max_pixels} pixels; source.max_pixels in the "
            "card raises the limit"
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    return as_ids(array, "an array")
