"""Labels in MATLAB files: a matrix with a raw id for each pixel."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import scipy.io

from pipelines.prepare.arrays import as_ids
from pipelines.prepare.faults import Unusable

_DEFLATED = 1032
"""Bytes that a compressed byte stands for, at most."""


def read_matrix(path: Path, key: str) -> np.ndarray:
    """The matrix `key` of a .mat file of any version before 7.3.

    Args:
        key: the variable's name, and after a dot each the fields of a structure that lead on.

    Returns:
        Raw ids (H, W) uint8 or uint16, also where MATLAB kept them as floating point numbers.

    Raises:
        Unusable: when the file cannot be read, or has no such matrix of ids.
    """
    variable, *fields = key.split(".")
    if not path.is_file():
        raise Unusable("no such file")
    try:
        shapes = {name: shape for name, shape, _ in scipy.io.whosmat(path, appendmat=False)}
        if variable not in shapes:
            raise Unusable(f"holds no {variable}; it has {', '.join(shapes) or 'nothing'}")
        # A broken header may name more than any file holds, and scipy would make room for it.
        if math.prod(shapes[variable]) > _DEFLATED * path.stat().st_size:
            raise Unusable(f"is too small for a {variable} {shapes[variable]}")
        content = scipy.io.loadmat(path, appendmat=False, variable_names=[variable])
    except Unusable:
        raise
    except Exception as error:  # on broken files scipy raises anything, down to IndexError
        raise Unusable(f"cannot be read: {error}") from error
    raw = content[variable]
    for field in fields:
        if raw.dtype.names is None or field not in raw.dtype.names or raw.size != 1:
            raise Unusable(f"has no field {field} on the way to {key}")
        raw = raw[field].item()
    if not isinstance(raw, np.ndarray):
        raise Unusable(f"has a {key} {type(raw).__name__}; expected ids (H, W)")
    return as_ids(raw, f"a {key}")
