"""Labels that are drawn from masks, each with its class: of a COCO file, of Pascal-Context, ..."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pycocotools import mask as coco

from pipelines.prepare.faults import Unusable

NOTHING = -1
"""In what `paint` gives, where there is no mask."""
DISPUTED = -2
"""Where masks of two classes are."""

_REACH = 2
"""A polygon may leave its image by as many times the image's longer side; farther is no outline of
something in it, and its rasterizer would walk there."""


_LONGEST = 10_000_000
"""Pixels that the outline of a polygon may have; its rasterizer keeps each."""


@dataclass(frozen=True)
class Masks:
    """The label of one image, in a file that has those of many."""

    source: str
    """That file."""
    image: str
    size: tuple[int, int]
    """(H, W)."""
    parts: tuple[tuple[int | str, str | bytes], ...]
    """Raw id or name of a class, and run-length code in COCO's compressed form."""

    def __str__(self) -> str:
        return f"{self.source}, {self.image}"


@dataclass(frozen=True)
class ClassFiles:
    """The label of one image as a black and white image for each class."""

    parts: tuple[tuple[str, str], ...]
    """What the class is called, and its file."""

    def __str__(self) -> str:
        return self.parts[0][1]


def decode(masks: Masks) -> Iterable[tuple[int | str, np.ndarray]]:
    """Each part with its mask (H, W) bool.

    Raises:
        Unusable: when a code is broken.
    """
    for category, counts in masks.parts:
        if not isinstance(counts, str | bytes) or not _fills(counts, masks.size):
            raise Unusable(
                f"has a broken mask of category {category}: its run-lengths do not make "
                f"{masks.size[0]} x {masks.size[1]} pixels"
            )
        mask = coco.decode({"size": list(masks.size), "counts": counts})
        yield category, mask.astype(bool)


def paint(
    size: tuple[int, int],
    masks: Iterable[tuple[int, np.ndarray]],
    overlap: Literal["error", "last", "ignore"] = "last",
) -> np.ndarray:
    """Ids (H, W) int32 of masks that are laid one over the other, `NOTHING` where none is.

    Raises:
        Unusable: when two of different ids cover one pixel, unless `overlap` says what it is.
    """
    ids = np.full(size, NOTHING, np.int32)
    for index, mask in masks:
        if overlap != "last":
            both = mask & (ids != NOTHING) & (ids != index)
            if overlap == "error" and both.any():
                row, column = np.argwhere(both)[0]
                raise Unusable(
                    f"has {both.sum()} pixels that two classes cover, such as row {row}, column "
                    f"{column}; source.labels.overlap in the card may be last (the later one) or "
                    "ignore (void)"
                )
            ids[mask] = index
            ids[both] = DISPUTED
        else:
            ids[mask] = index
    return ids


def run_lengths(segmentation: Any, size: tuple[int, int]) -> bytes:
    """The code of a COCO annotation's polygons or run-lengths, for an image (H, W).

    Raises:
        Unusable: when it is neither, or of another size.
    """
    height, width = size
    if isinstance(segmentation, dict):
        if list(segmentation.get("size", ())) != [height, width]:
            raise Unusable(
                f"has run-lengths of size {segmentation.get('size')}; expected {[height, width]}"
            )
        counts = segmentation.get("counts")
        if isinstance(counts, str):
            return counts.encode()
        whole = isinstance(counts, list) and all(
            isinstance(count, int) and count >= 0 for count in counts
        )
        if counts is None or not whole or sum(counts) != height * width:
            raise Unusable(f"has run-lengths that do not make {height} x {width} pixels")
        return coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)[
            "counts"
        ]
    if not isinstance(segmentation, list) or not segmentation:
        raise Unusable("has neither polygons nor run-lengths")
    polygons = [_polygon(polygon, size) for polygon in segmentation]
    return coco.merge(coco.frPyObjects(polygons, height, width))["counts"]


def corners(points: Any, size: tuple[int, int]) -> np.ndarray:
    """Points (n, 2) float64 as x, y.

    Raises:
        Unusable: when they are no numbers, or far away from an image (H, W).
    """
    try:
        array = np.array(points, dtype=np.float64).reshape(-1, 2)
    except (ValueError, TypeError) as error:
        raise Unusable("has a shape whose points are no pairs of numbers") from error
    if not np.isfinite(array).all() or (np.abs(array) > _REACH * max(size)).any():
        raise Unusable(f"has a shape with points far away from its {size[0]} x {size[1]} pixels")
    return array


def _polygon(polygon: Any, size: tuple[int, int]) -> list[float]:
    points = corners(polygon, size)
    if len(points) < 3:  # of four numbers COCO's tools make a box
        raise Unusable(f"has a polygon of {len(points)} points; expected 3 or more")
    if np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1).sum() > _LONGEST:
        raise Unusable(f"has a polygon whose outline is longer than {_LONGEST} pixels")
    return points.ravel().tolist()


def _fills(counts: str | bytes, size: tuple[int, int]) -> bool:
    """Whether a compressed code is whole: COCO's decoder leaves chance values where it is not.

    Each length is written in bytes of five bits, the lowest first, from the third on as a
    difference from the one before the last.
    """
    code = counts.encode() if isinstance(counts, str) else counts
    data = np.frombuffer(code, np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((data & 32) == 0)
    if not len(data) or data.min() < 0 or data.max() > 63 or data[-1] & 32:
        return False
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() > 6:
        return False
    places = np.arange(len(data)) - np.repeat(starts, ends - starts + 1)
    lengths = np.add.reduceat((data & 31) << (5 * places), starts)
    lengths -= np.where(data[ends] & 16, 1 << (5 * (ends - starts + 1)), 0)
    lengths[1::2] = np.cumsum(lengths[1::2])
    lengths[2::2] = np.cumsum(lengths[2::2])
    return bool((lengths >= 0).all() and lengths.sum() == size[0] * size[1])
