"""How the scenes of the embedded data set are drawn: textures, glyphs as strokes, places.

All drawing is done in integers (or in floats that hold integers exactly), so that the decoded
arrays do not hang on a machine's mathematics library.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

#: Least value of a digit's colour in each channel; backgrounds stay below 128.
LEAST_INK = 150

_UPSAMPLE = 4  # a glyph is enlarged by this factor before it is rotated and resampled
_PAD = 2  # empty cells around a glyph, so that strokes at its border keep their round ends
_CANVAS = (8 + 2 * _PAD) * _UPSAMPLE
_MAX_ROTATION = 12  # degrees
_PLACES = 24  # positions tried for a digit


@lru_cache(maxsize=64)
def _linear_weights(size: int, nodes: int) -> np.ndarray:
    """Matrix ``(size, nodes)`` of whole numbers, rows summing to 256: linear interpolation."""
    weights = np.zeros((size, nodes))
    for row in range(size):
        place = row * (nodes - 1) * 256 // size
        node, rest = divmod(place, 256)
        weights[row, node] += 256 - rest
        weights[row, node + 1] += rest
    return weights


@lru_cache(maxsize=1)
def _cubic_weights() -> np.ndarray:
    """Matrix ``(_CANVAS, 8 + 2 * _PAD)``: Catmull-Rom upsampling, whole numbers, unit 1024."""
    cells = 8 + 2 * _PAD
    weights = np.zeros((_CANVAS, cells))
    for row in range(_CANVAS):
        # Centre of the fine pixel in eighths of a cell: t is odd, so that t**3 / 512 is exact.
        node, t = divmod(2 * row + 1 - _UPSAMPLE, 2 * _UPSAMPLE)
        taps = (
            -(t**3) + 16 * t**2 - 64 * t,
            3 * t**3 - 40 * t**2 + 1024,
            -3 * t**3 + 32 * t**2 + 64 * t,
            t**3 - 8 * t**2,
        )
        for offset, tap in enumerate(taps, start=-1):
            if 0 <= node + offset < cells:
                weights[row, node + offset] += tap
    return weights


@lru_cache(maxsize=64)
def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    line = np.arange(size, dtype=np.int32)
    return line[:, None], line[None, :]


def _noise(rng: np.random.Generator, size: int, nodes: int) -> np.ndarray:
    """Smooth noise ``(size, size)`` int32 in 0..255, with about ``nodes`` features a side."""
    values = rng.integers(0, 256, (nodes + 1, nodes + 1)).astype(np.float64)
    weights = _linear_weights(size, nodes + 1)
    # Every partial sum is a whole number below 2**24, so no order of summation can round.
    return (weights @ values @ weights.T).astype(np.int32) >> 16


def background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Texture ``(size, size, 3)`` int32 in 0..255."""
    y, x = _grid(size)
    coarse = _noise(rng, size, 3)
    fine = (2 * _noise(rng, size, 9) + _noise(rng, size, 20)) // 3
    kind = rng.integers(3)
    if kind == 0:
        second = fine
    else:
        # Stripes (or, crossed, checks) bent by the coarse noise: a triangle wave in 0..255.
        dx, dy = (int(v) for v in rng.integers(-40, 41, 2))
        wave = (x * dx + y * dy + (coarse >> 1)) & 511
        second = np.where(wave > 255, 511 - wave, wave)
        if kind == 2:
            wave = (x * dy - y * dx + (fine >> 1)) & 511
            second = (second + np.where(wave > 255, 511 - wave, wave)) >> 1
        second = (3 * second + fine) >> 2
    # The colours stay near to one another, so that a digit can stand out from all of them.
    base = rng.integers(30, 226, 3).astype(np.int32)
    steps = rng.integers(-70, 71, (2, 3)).astype(np.int32)
    image = (coarse - 128)[..., None] * steps[0]
    image += (second - 128)[..., None] * steps[1]
    image >>= 7
    image += base
    # Dark, so that what is a digit is quickly learned, and which digit remains to be learned.
    return np.clip(image, 0, 255, out=image) >> 1


def ink(rng: np.random.Generator) -> np.ndarray:
    """A light colour ``(3,)``: digits are brighter than every background."""
    return rng.integers(LEAST_INK, 256, 3)


def stroke(rng: np.random.Generator, glyph: np.ndarray, side: int) -> np.ndarray:
    """Enlarge, stretch and turn a glyph ``(8, 8)`` to about ``side`` pixels.

    Returns:
        Coverage ``(h, w)`` int32 in 0..255, cropped to where it is at least 128 somewhere.
    """
    weights = _cubic_weights()
    canvas = weights @ np.pad(glyph, _PAD).astype(np.float64) @ weights.T  # exact, as in _noise
    canvas = (canvas.astype(np.int64) >> 16).astype(np.int32)  # ink 16 becomes 256

    angle = math.radians(int(rng.integers(-_MAX_ROTATION, _MAX_ROTATION + 1)))
    stretch = int(rng.integers(230, 283))  # width in 1/256
    # Fine pixels of the canvas a pixel of the scene, in 1/1024; 12 bits of the sine are safe from
    # differences between mathematics libraries.
    cos, sin = round(math.cos(angle) * 4096), round(math.sin(angle) * 4096)
    unit = 8 * _UPSAMPLE * 1024
    reach = side + side // 3
    y, x = (2 * line.astype(np.int64) + 1 - reach for line in _grid(reach))  # half pixels
    centre = _CANVAS * 512 - 512
    v = unit * (cos * y - sin * x) // (2 * 4096 * side) + centre
    u = unit * 256 * (cos * x + sin * y) // (2 * 4096 * side * stretch) + centre
    limit = (_CANVAS - 1) * 1024 - 1
    v, u = np.clip(v, 0, limit), np.clip(u, 0, limit)
    row, column, down, right = v >> 10, u >> 10, v & 1023, u & 1023
    flat = row * _CANVAS + column
    ink = canvas.ravel()
    upper = ink[flat] * (1024 - right) + ink[flat + 1] * right
    lower = ink[flat + _CANVAS] * (1024 - right) + ink[flat + _CANVAS + 1] * right
    value = (upper * (1024 - down) + lower * down) >> 20

    # A little under half the ink is the stroke's edge; the slope gives it about a pixel of blur.
    alpha = np.clip(128 + 2 * (value - 112), 0, 255).astype(np.int32)
    solid = alpha >= 128
    rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    if not len(rows):
        raise ValueError("a glyph without ink cannot be drawn")
    return alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def place(
    rng: np.random.Generator,
    height: int,
    width: int,
    size: int,
    boxes: list[tuple[int, int, int, int]],
) -> tuple[int, int]:
    """Top left corner where a box overlaps earlier ones least, the first such of `_PLACES`."""
    top = rng.integers(0, size - height + 1, _PLACES)
    left = rng.integers(0, size - width + 1, _PLACES)
    overlap = np.zeros(_PLACES, np.int64)
    for y0, x0, y1, x1 in boxes:
        high = np.minimum(top + height, y1) - np.maximum(top, y0)
        wide = np.minimum(left + width, x1) - np.maximum(left, x0)
        overlap += np.maximum(high, 0) * np.maximum(wide, 0)
    # A tenth of the box is mostly paper: it lets digits touch, which separates them less neatly.
    best = int(np.argmax(overlap <= height * width // 10)) if len(boxes) else 0
    if overlap[best] > height * width // 10:
        best = int(np.argmin(overlap))
    return int(top[best]), int(left[best])


def blend(window: np.ndarray, alpha: np.ndarray, colour: np.ndarray) -> None:
    window += (colour - window) * alpha[..., None] // 255
