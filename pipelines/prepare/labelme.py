"""Labels in LabelMe files: a JSON file an image, with shapes that have a label and points.

Shapes are filled as LabelMe does it itself, by Pillow, their outlines included.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from pipelines.prepare.faults import Unusable, few_enough
from pipelines.prepare.masks import corners

_AREAS = ("polygon", "rectangle", "circle", "mask")


def read_labelme(
    path: Path, max_pixels: int
) -> tuple[tuple[int, int], list[tuple[str, dict[str, Any]]]]:
    """The size (H, W) of the image, and each shape with its label, in the file's order.

    Raises:
        Unusable: when the file cannot be read, or is not one of LabelMe's.
    """
    try:
        content = json.loads(path.read_bytes())
        size = content["imageHeight"], content["imageWidth"]
        shapes = [(str(each["label"]), each) for each in content["shapes"]]
    except FileNotFoundError:
        raise Unusable("no such file") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Unusable(
            f"is not a file of LabelMe ({error!r}); expected shapes, imageHeight and imageWidth"
        ) from error
    if not all(isinstance(side, int) and side > 0 for side in size):
        raise Unusable(f"has an image of {size[0]} x {size[1]} pixels; expected numbers")
    few_enough(size, max_pixels, "an image of ")
    return size, shapes


def drawn(
    size: tuple[int, int], shapes: list[tuple[int, dict[str, Any]]]
) -> Iterator[tuple[int, np.ndarray]]:
    """Each shape's id with its mask (H, W) bool.

    Raises:
        Unusable: for a shape that is no area, or is broken.
    """
    for index, shape in shapes:
        kind = shape.get("shape_type") or "polygon"
        if kind not in _AREAS:
            raise Unusable(
                f"has a {kind} of {shape['label']!r}, which has no area; expected "
                f"{', '.join(_AREAS)}"
            )
        points = corners(shape.get("points"), size)
        needed = 3 if kind == "polygon" else 2
        if len(points) < needed or (kind != "polygon" and len(points) != 2):
            raise Unusable(f"has a {kind} of {len(points)} points; expected {needed}")
        if kind == "mask":
            yield index, _mask(shape, points, size)
        else:
            yield index, _filled(kind, points, size)


def _filled(kind: str, points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    picture = Image.new("1", (size[1], size[0]))
    pen = ImageDraw.Draw(picture)
    if kind == "circle":
        (x, y), (to_x, to_y) = points.tolist()
        radius = math.hypot(to_x - x, to_y - y)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1, outline=1)
    elif kind == "rectangle":
        low, high = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        pen.rectangle((*low, *high), fill=1, outline=1)
    else:
        pen.polygon([tuple(point) for point in points.tolist()], fill=1, outline=1)
    return np.asarray(picture).astype(bool)


def _mask(shape: dict[str, Any], points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mask that a shape has as a PNG in text, from its first point on."""
    left, top = (round(value) for value in points.min(axis=0).tolist())
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"], validate=True))) as picture:
            part = np.asarray(picture.convert("L")).astype(bool)
    except (OSError, ValueError, KeyError, TypeError, SyntaxError) as error:
        raise Unusable(f"has a mask of {shape['label']!r} that cannot be read: {error}") from error
    mask = np.zeros(size, bool)
    if (
        part.ndim != 2
        or left < 0
        or top < 0
        or mask[top:, left:][: part.shape[0], : part.shape[1]].shape != part.shape
    ):
        raise Unusable(f"has a mask of {shape['label']!r} that leaves the image")
    mask[top : top + part.shape[0], left : left + part.shape[1]] = part
    return mask
