"""Raw images and labels as arrays, each file decoded to its end."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps

from pipelines.prepare.faults import Unusable

_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


_COPIED: dict[str | None, Literal[".jpg", ".png"]] = {"JPEG": ".jpg", "PNG": ".png"}
"""Suffixes of files that may stay as they are, by format."""


def read_image(
    path: Path, label_size: tuple[int, int] | None
) -> tuple[np.ndarray, Literal[".jpg", ".png"] | None]:
    """The image as RGB, and the suffix of its file if that may be copied as it is.

    It may be where it is an RGB JPEG, or a PNG of 8-bit RGB without transparency. An image that its
    EXIF data says is turned is turned, as mmsegmentation does, unless its label only fits it
    unturned.

    Args:
        label_size: (width, height); None where the label cannot be read.

    Returns:
        (H, W, 3) uint8, and the suffix or None.

    Raises:
        Unusable: when it cannot be read, has more than 8 bits a channel, or another size.
    """
    picture = _decoded(path)
    if picture.mode in _DEEP or _bit_depth(path) == 16:
        raise Unusable("has more than 8 bits a channel; expected 8")
    suffix = _COPIED.get(picture.format)
    if picture.mode != "RGB" or "transparency" in picture.info:
        suffix = None
    if picture.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        turned, suffix = ImageOps.exif_transpose(picture), None
        if turned.size == label_size or picture.size != label_size:
            picture = turned
    if label_size is not None and picture.size != label_size:
        raise Unusable(
            f"has {picture.width} x {picture.height} pixels and its label "
            f"{label_size[0]} x {label_size[1]}; expected one size"
        )
    return np.asarray(picture.convert("RGB")), suffix


def read_index(path: Path) -> np.ndarray:
    """The values of a grey image of 8 or 16 bits, or the indices of one with a palette.

    Returns:
        (H, W) uint8 or uint16.

    Raises:
        Unusable: when it cannot be read or is of another kind.
    """
    picture = _decoded(path)
    _refuse_jpeg(picture)
    shallow = picture.mode == "L" and _bit_depth(path) in (2, 4)
    if picture.mode in ("L", "P", "1") and not shallow:
        return np.asarray(picture).astype(np.uint8)
    if picture.mode.startswith("I") and _bit_depth(path) in (None, 16):
        values = np.asarray(picture)
        if values.min() >= 0 and values.max() < 2**16:
            return values.astype(np.uint16)
    raise Unusable(
        f"is a label of mode {picture.mode}; expected grey of 8 or 16 bits or indices to a palette "
        "(or source.labels.encoding: colour in the card)"
    )


def read_colours(path: Path) -> np.ndarray:
    """The colours of a label, without its transparency.

    Returns:
        (H, W, 3) uint8.

    Raises:
        Unusable: when it cannot be read or is of another kind.
    """
    picture = _decoded(path)
    _refuse_jpeg(picture)
    if picture.mode in _DEEP or _bit_depth(path) == 16:
        raise Unusable("has more than 8 bits a channel; expected 8")
    return np.asarray(picture.convert("RGB"))


def _decoded(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            # Decoding leaves out the checksums, by which a damaged PNG shows.
            picture.verify()
        with Image.open(path) as picture:
            picture.load()
            picture.getexif()
            return picture
    except FileNotFoundError:
        raise Unusable("no such file") from None
    # SyntaxError and ValueError are what Pillow's readers of broken files raise.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Unusable(f"cannot be read: {error}") from error


def _refuse_jpeg(picture: Image.Image) -> None:
    if picture.format in ("JPEG", "MPO"):
        raise Unusable("is a JPEG, which changes the values of a label; expected PNG")


def _bit_depth(path: Path) -> int | None:
    """Bits a channel of a PNG, which Pillow does not tell; None for other files."""
    with path.open("rb") as file:
        header = file.read(25)
    return header[24] if header.startswith(b"\x89PNG") else None
