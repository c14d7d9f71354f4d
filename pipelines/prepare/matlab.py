"""Labels in MATLAB files: a matrix with a raw id for each pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.io

from pipelines.prepare.faults import Unusable


def read_matrix(path: Path, key: str) -> np.ndarray:
    """The matrix `key` of a .mat file of any version before 7.3.

    Args:
        key: the variable's name, and after a dot each the fields of a structure that lead on.

    Returns:
        Raw ids (H, W) uint16, also where MATLAB kept them as floating point numbers.

    Raises:
        Unusable: when the file cannot be read, or has no such matrix of ids.
    """
    variable, *fields = key.split(".")
    if not path.is_file():
        raise Unusable("no such file")
    try:
        content = scipy.io.loadmat(path, appendmat=False, variable_names=[variable])
    except Exception as error:  # on broken files scipy raises anything, down to IndexError
        raise Unusable(f"cannot be read: {error}") from error
    if variable not in content:
        held = ", ".join(name for name, *_ in scipy.io.whosmat(path, appendmat=False))
        raise Unusable(f"holds no {variable}; it has {held or 'nothing'}")
    raw = content[variable]
    for field in fields:
        if raw.dtype.names is None or field not in raw.dtype.names or raw.size != 1:
            raise Unusable(f"has no field {field} on the way to {key}")
        raw = raw[field].item()
    if not isinstance(raw, np.ndarray) or raw.ndim != 2 or raw.dtype.kind not in "uif":
        kind = f"{raw.shape} of {raw.dtype}" if isinstance(raw, np.ndarray) else type(raw).__name__
        raise Unusable(f"has a {key} {kind}; expected ids (H, W)")
    with np.errstate(invalid="ignore"):
        ids = raw.astype(np.uint16)
    if not np.array_equal(ids, raw):
        raise Unusable(f"has a {key} of {raw.dtype} with other numbers than ids from 0 to 65535")
    return ids
