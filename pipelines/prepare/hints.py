"""What a mask probably is that does not fit its card."""

from __future__ import annotations

import numpy as np

BINARY = "masks of 0 and 255 need mapping: {0: 0, 255: 1} under source.labels"


def unknown_ids(values: np.ndarray, classes: int) -> str:
    """The mend for a mask of raw ids (n,) of which its card does not know all; empty if unclear."""
    found = set(values.tolist())
    if {255} <= found <= {0, 255}:
        return f"; {BINARY} (and ignore: [255] if they are void)"
    if found <= {*range(1, classes + 1), 255} and classes in found:
        return "; ids that begin with 1 need reduce_zero: true"
    return ""
