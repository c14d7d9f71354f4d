"""Colours for classes that have none, which colour-blind readers can tell apart too.

Up to eight classes get the colours of Okabe and Ito (2008). For each further one, of a grid of
colours that one is taken whose nearest neighbour among those taken is farthest away, as seen by the
least able of four eyes: normal, and without red, green or blue cones (Machado et al. 2009, severity
1). Distances are those of CIELAB. Many classes cannot all be far apart.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np

_FIRST = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)),
    *((0, 114, 178), (213, 94, 0), (204, 121, 167), (0, 0, 0)),
)

_EYES = np.array(
    [
        np.eye(3),
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ],
    ]
)
"""What each eye sees of linear (r, g, b)."""

_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = _XYZ.sum(axis=1)
_LEVELS = (0, 36, 73, 109, 146, 182, 219, 255)


@functools.cache
def distinct_colours(count: int) -> tuple[tuple[int, int, int], ...]:
    """The first ``count`` colours (r, g, b); fewer are always the beginning of more."""
    taken: list[tuple[int, int, int]] = list(_FIRST[:count])
    grid = np.array(list(itertools.product(_LEVELS, repeat=3)))
    seen = seen_lab(grid)
    nearest = np.full(len(grid), np.inf)
    for colour in taken:
        nearest = np.minimum(nearest, _least(seen, seen_lab(np.array([colour]))))
    while len(taken) < count:
        best = int(np.argmax(nearest))
        red, green, blue = grid[best].tolist()
        taken.append((red, green, blue))
        nearest = np.minimum(nearest, _least(seen, seen[:, best : best + 1]))
    return tuple(taken)


def seen_lab(colours: np.ndarray) -> np.ndarray:
    """CIELAB (4, N, 3) of (r, g, b) (N, 3) in 0..255, as each of the four eyes sees them."""
    values = np.asarray(colours, np.float64) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ _EYES.transpose(0, 2, 1), 0, 1) @ _XYZ.T / _WHITE
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _least(some: np.ndarray, one: np.ndarray) -> np.ndarray:
    nearest: np.ndarray = np.linalg.norm(some - one, axis=-1).min(axis=0)
    return nearest
