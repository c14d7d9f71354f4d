"""Raw images and labels as pixels, each file decoded to its end.

What is read, and what is refused by name, stands in the documentation of data. An image is RGB of
8 bits, and whatever becomes that without a loss; a label keeps every value.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
from PIL import Image

from pipelines.base.pixels import strips
from pipelines.prepare.arrays import as_ids
from pipelines.prepare.containers import Raster, decoded
from pipelines.prepare.faults import Unusable
from sar.large_images import MAX_PIXELS

_COPIED: dict[str | None, Literal[".jpg", ".png"]] = {"JPEG": ".jpg", "PNG": ".png"}
"""Suffixes of files that may stay as they are, by format."""

_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_COLOURS = ("1", "L", "P", "RGB", *_ALPHA, "CMYK", "YCbCr")


class Picture(NamedTuple):
    pixels: Image.Image
    """RGB, as stored."""
    tag: int
    """Its EXIF orientation."""
    suffix: Literal[".jpg", ".png"] | None
    """That of its file, if this may be copied as it is."""


class Values(NamedTuple):
    """Of a label, as stored."""

    values: np.ndarray
    """(H, W) uint8 or uint16; of colours (H, W, 3) uint8."""
    tag: int
    """The file's EXIF orientation."""
    palette: np.ndarray | None = None
    """Colours (n, 3) uint8 by index, where the values are indices."""


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> Picture:
    """The image as RGB.

    It may be copied where it is an RGB JPEG, or a PNG of 8-bit RGB without transparency.

    Raises:
        Unusable: when it cannot be read, or would lose something: more than 8 bits a channel, a
            band beside the colours, transparency.
    """
    raster = decoded(path, max_pixels)
    picture = raster.picture
    if raster.bits > 8 or raster.sample != "unsigned" or picture.mode not in _COLOURS:
        raise Unusable(
            f"has {_kind(raster)}; expected 8 bits a channel, grey or RGB: scale its values as "
            "they should be seen and write it anew"
        )
    has_alpha = picture.mode in _ALPHA or "transparency" in picture.info
    if raster.extra > has_alpha:
        raise Unusable(
            f"has {raster.extra} bands beside its colours that are no transparency, such as "
            "infrared; expected grey or RGB: choose three bands and write it anew"
        )
    if has_alpha and _alpha(picture).getextrema()[0] != 255:
        raise Unusable(
            "has a fourth band that is not 255 throughout, so transparent pixels or data; expected "
            "RGB: lay it over a ground, or leave the band out, and write it anew"
        )
    copied = picture.mode == "RGB" and "transparency" not in picture.info and raster.tag == 1
    suffix = _COPIED.get(picture.format) if copied else None
    if picture.mode in ("La", "RGBa"):
        picture = picture.convert(picture.mode.upper())
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    picture.info = {}  # Its profile, gamma and text would go into the file that is written.
    return Picture(picture, raster.tag, suffix)


def read_index(path: Path, max_pixels: int = MAX_PIXELS) -> Values:
    """The values of a grey image of up to 16 bits, or the indices of one with a palette.

    Grey may be stored as colours whose channels are equal, of 8 or 16 bits, and is so in a GIF;
    transparency is left out.

    Raises:
        Unusable: when it cannot be read or is of another kind.
    """
    raster = _label(path, max_pixels)
    picture = raster.picture
    if picture.mode == "P" and not raster.extra:
        colours = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
        values = pixels(picture)
        if raster.format == "GIF":  # in which even grey has indices of the writer's choice
            if (colours != colours[:, :1]).any():
                raise Unusable(
                    "is a GIF in colours, whose indices mean nothing; expected "
                    "source.labels.encoding: colour in the card"
                )
            return Values(colours[:, 0][values], raster.tag)
        return Values(values, raster.tag, colours)
    if picture.mode == "1":
        return Values(pixels(picture).astype(np.uint8), raster.tag)
    deep = raster.bits > 8
    if picture.mode == "L" and not deep and not raster.extra:
        values = pixels(picture)
        return Values(as_ids(values.view(np.int8)) if _signed(raster) else values, raster.tag)
    if picture.mode.startswith(("I", "F")):
        return Values(as_ids(pixels(picture)), raster.tag)
    if picture.mode in ("LA", "RGB", "RGBA"):
        bands = _deep(path, raster) if deep else pixels(picture)
        if picture.mode == "LA" and not deep:
            return Values(np.ascontiguousarray(bands[..., 0]), raster.tag)
        if all((bands[..., 0] == bands[..., k]).all() for k in (1, 2)):
            return Values(np.ascontiguousarray(bands[..., 0]), raster.tag)
    raise Unusable(
        f"is a label of {_kind(raster)}; expected grey of 8 or 16 bits or indices to a palette "
        "(or source.labels.encoding: colour in the card)"
    )


def read_colours(path: Path, max_pixels: int = MAX_PIXELS) -> Values:
    """The colours of a label, without its transparency.

    Those of 16 bits a channel are read where they fit 8: all up to 255, or all multiples of 257.

    Raises:
        Unusable: when it cannot be read or is of another kind.
    """
    raster = _label(path, max_pixels)
    picture = raster.picture
    if raster.bits > 8 and picture.mode in ("LA", "RGB", "RGBA"):
        return Values(_in_8_bits(_deep(path, raster)), raster.tag)
    if raster.bits > 8 or picture.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        raise Unusable(f"is a label of {_kind(raster)}; expected colours of 8 bits a channel")
    return Values(pixels(picture if picture.mode == "RGB" else picture.convert("RGB")), raster.tag)


def read_binary(path: Path, max_pixels: int = MAX_PIXELS) -> Values:
    """Where the image of one class is not black: (H, W) bool.

    Raises:
        Unusable: when it cannot be read, or has more than two values.
    """
    values, tag, palette = read_index(path, max_pixels)
    found = np.unique(values)
    if palette is not None and len({tuple(palette[index].tolist()) for index in found}) > 1:
        values = palette.max(axis=1)[values]  # 0 for black alone, whatever its index
        found = np.unique(values)
    if len(found) > 2 or (len(found) == 2 and found[0] != 0):
        raise Unusable(
            f"has the values {', '.join(map(str, found[:8].tolist()))}; expected the mask of one "
            "class: 0 and one other"
        )
    return Values(values != 0, tag)


def pixels(picture: Image.Image) -> np.ndarray:
    """(H, W) or (H, W, bands); without the second copy that `np.asarray` makes on its way."""
    first = np.asarray(picture.crop((0, 0, picture.width, 1)))
    array = np.empty((picture.height, *first.shape[1:]), first.dtype)
    for top, rows in strips(picture):
        array[top : top + len(rows)] = rows
    return array


def _label(path: Path, max_pixels: int) -> Raster:
    """A decoded file whose picture has the values that are stored."""
    raster = decoded(path, max_pixels)
    if raster.lossy:
        raise Unusable(f"is a {raster.lossy}, which changes the values of a label; expected PNG")
    if raster.stretched:
        raise Unusable(
            f"is a {raster.format} whose values are not of 8 or 16 bits; expected grey of 8 or 16 "
            "bits or indices to a palette"
        )
    if raster.inverted:
        raise Unusable(
            f"is a {raster.format} in which 0 is white; expected 0 to be black "
            "(photometric interpretation 1)"
        )
    return raster


def _signed(raster: Raster) -> bool:
    return raster.sample == "signed"


def _alpha(picture: Image.Image) -> Image.Image:
    if picture.mode in ("P", "L", "RGB", "1"):
        picture = picture.convert("RGBA")
    return picture.getchannel(len(picture.getbands()) - 1)


def _deep(path: Path, raster: Raster) -> np.ndarray:
    """(H, W, 3) uint16 of a PNG or TIFF of 16 bits a channel, which Pillow would cut to 8."""
    if raster.extra > 1 or (raster.format == "TIFF" and raster.tag != 1):
        raise Unusable(f"is a label of {_kind(raster)}; expected grey, RGB or RGBA, not turned")
    bands = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if bands is None or bands.dtype != np.uint16 or bands.ndim != 3 or bands.shape[2] < 3:
        raise Unusable(f"is a label of {_kind(raster)}; expected 8 bits a channel")
    return np.ascontiguousarray(bands[..., 2::-1])


def _in_8_bits(colours: np.ndarray) -> np.ndarray:
    if colours.max() <= 255:
        return colours.astype(np.uint8)
    if (colours % 257).any():
        raise Unusable(
            f"has colours of 16 bits that do not fit 8 (up to {colours.max()}); expected values up "
            "to 255, or multiples of 257"
        )
    return (colours // 257).astype(np.uint8)


def _kind(raster: Raster) -> str:
    sample = "" if raster.sample == "unsigned" else f" ({raster.sample})"
    deep = "more than 8 bits" if raster.bits > 8 else f"{raster.bits} bits"
    return f"mode {raster.picture.mode}, {deep} a channel{sample}"
