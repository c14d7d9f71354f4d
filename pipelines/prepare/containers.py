"""What a raster file is: which formats are read, and what a decoded picture no longer tells.

Pillow cuts channels of 16 bits to 8, leaves out bands that it has no mode for, turns TIFF files,
stretches grey of few bits, and decodes lossy files like others. So the file itself is asked.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from PIL import ExifTags, Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from pipelines.prepare.faults import Unusable, few_enough
from sar.large_images import MAX_PIXELS, any_size

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM", "JPEG2000")

Sample = Literal["unsigned", "signed", "floating point"]

# TIFF's tags and their values by the specification of TIFF 6.0 and its supplements.
_SUBFILE, _BITS, _COMPRESSION, _PHOTOMETRIC, _BANDS, _SAMPLE = 254, 258, 259, 262, 277, 339
_REDUCED_OR_MASK = 0b101
_SAMPLES: dict[int, Sample] = {1: "unsigned", 2: "signed", 3: "floating point", 4: "unsigned"}
_LOSSLESS = {1, 2, 3, 4, 5, 8, 32773, 32946, 34925, 50000}
_BASE_BANDS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
_PAGES = 1000
OTHER_LABELS = {".json": "labelme or coco", ".npy": "array", ".mat": "matrix"}
"""What labels may be that are no images."""

_UNDONE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What makes a picture that was turned as the tag says what is stored."""


@dataclass(frozen=True)
class Raster:
    """A decoded file, as it is stored: not turned."""

    picture: Image.Image
    format: str
    tag: int = 1
    """Its EXIF orientation, 1 to 8."""
    bits: int = 8
    """A channel, as stored."""
    sample: Sample = "unsigned"
    extra: int = 0
    """Bands beyond those of its colours, that the picture may lack."""
    lossy: str | None = None
    """The compression that changed its values."""
    inverted: bool = False
    """Whether the file says that 0 is white."""
    stretched: bool = False
    """Whether the picture has other values than the file, to fill 8 or 16 bits."""


def decoded(path: Path, max_pixels: int = MAX_PIXELS) -> Raster:
    """Decode a file to its end.

    Raises:
        Unusable: when it cannot be read, is of no format of `FORMATS`, has several pictures, or
            more pixels.
    """
    try:
        with any_size(), path.open("rb") as file:
            tiff = _tiff(file)
            with _opened(file, tiff) as picture:
                _check(picture, max_pixels)
                # Decoding leaves out the checksums, by which a damaged PNG shows.
                picture.verify()
            with _opened(file, tiff) as picture:
                asked = _asked(picture, file, tiff)
                picture.load()
                tag = asked.pop("tag", None) or picture.getexif().get(ExifTags.Base.Orientation, 1)
                tag = tag if tag in _UNDONE else 1
                if tiff and tag != 1:
                    picture = picture.transpose(_UNDONE[tag])
                return Raster(picture, _name(picture.format or "TIFF"), tag, **asked)
    except FileNotFoundError:
        raise Unusable("no such file") from None
    # SyntaxError, ValueError and the others are what Pillow's readers of broken files raise.
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error) as error:
        raise Unusable(f"cannot be read: {error}") from error
    except (IndexError, EOFError, OverflowError, AttributeError) as error:
        raise Unusable(f"cannot be read: {error!r}") from error


def _opened(file: BinaryIO, tiff: list[dict[int, Any]] | None) -> Image.Image:
    file.seek(0)
    try:
        return Image.open(file)
    except UnidentifiedImageError:
        if tiff is None:
            other = OTHER_LABELS.get(Path(file.name).suffix.lower())
            hint = f" (or, of labels, source.labels.encoding: {other} in the card)" if other else ""
            raise Unusable(
                f"cannot be read: no image; expected {', '.join(FORMATS)}{hint}"
            ) from None
        kind = _SAMPLES.get(_first(tiff[0], _SAMPLE, 1), "unknown")
        raise Unusable(
            f"is a TIFF of {_first(tiff[0], _BANDS, 1)} bands of {_bits(tiff[0])} bits, {kind}; "
            "expected grey or RGB of 8 bits"
        ) from None


def _check(picture: Image.Image, max_pixels: int) -> None:
    """Refuse what is not to be decoded at all."""
    if _name(picture.format) not in FORMATS:
        raise Unusable(f"is a {picture.format} file; expected {', '.join(FORMATS)}")
    few_enough(picture.size, max_pixels)


def _asked(
    picture: Image.Image, file: BinaryIO, tiff: list[dict[int, Any]] | None
) -> dict[str, Any]:
    """What the file says that the picture will not; before it is decoded."""
    place = file.tell()
    try:
        if tiff:
            return _of_tiff(tiff)
        # A phone's MPO has previews of its first picture; an animation has others.
        if picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:
            raise Unusable(_several(picture.n_frames))  # type: ignore[attr-defined]
        match _name(picture.format):
            case "PNG":
                file.seek(24)
                bits = file.read(1)[0]
                return {"bits": bits, "stretched": bits in (2, 4) and picture.mode == "L"}
            case "PPM":
                return _of_ppm(picture)
            case "WEBP":
                return {"lossy": "lossy WebP" if _is_lossy_webp(file) else None}
            case "JPEG":
                return {"lossy": "JPEG"}
            case "JPEG2000":
                return {"lossy": "JPEG 2000", "bits": _bits_of_jpeg2000(file)}
        return {}
    finally:
        file.seek(place)


def _name(format: str | None) -> str:
    return {"MPO": "JPEG", "DIB": "BMP"}.get(format or "", format or "")


def _several(count: int) -> str:
    return f"has {count} pictures; expected one (an animation, or a TIFF of several pages)"


def _of_ppm(picture: Image.Image) -> dict[str, Any]:
    assert isinstance(picture, ImageFile.ImageFile)  # All that are opened from a file are.
    arguments = picture.tile[0].args
    if isinstance(arguments, tuple):
        most = arguments[1]
        return {"bits": int(most).bit_length(), "stretched": most not in (255, 65535)}
    return {"bits": 16 if arguments == "I;16B" else 8}


def _is_lossy_webp(file: BinaryIO) -> bool:
    """Whether the first chunk of pixels is VP8, not VP8L."""
    file.seek(12)
    while len(header := file.read(8)) == 8:
        kind, size = header[:4], int.from_bytes(header[4:], "little")
        if kind in (b"VP8 ", b"VP8L"):
            return kind == b"VP8 "
        file.seek(size + size % 2, 1)
    return True


def _bits_of_jpeg2000(file: BinaryIO) -> int:
    """Of the deepest channel, by the SIZ segment of the codestream."""
    file.seek(0)
    head = file.read(1 << 20)
    start = head.index(b"\xff\x4f\xff\x51") + 4
    (count,) = struct.unpack_from(">H", head, start + 36)
    return max((head[start + 38 + 3 * index] & 0x7F) + 1 for index in range(count))


def _tiff(file: BinaryIO) -> list[dict[int, Any]] | None:
    """The tags of each page, if it is a TIFF: Pillow does not open all kinds."""
    header = file.read(8)
    if header[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return None
    if b"+" in header[:4]:
        header += file.read(8)
    directory = TiffImagePlugin.ImageFileDirectory_v2(header)
    pages: list[dict[int, Any]] = []
    while directory.next and len(pages) < _PAGES:
        file.seek(directory.next)
        directory.load(file)
        pages.append(dict(directory.items()))
    if not pages:
        raise Unusable("cannot be read: a TIFF without a page")
    return pages


def _of_tiff(pages: list[dict[int, Any]]) -> dict[str, Any]:
    # Overviews (pages of less resolution) and masks of transparency belong to the first.
    others = [page for page in pages[1:] if not _first(page, _SUBFILE, 0) & _REDUCED_OR_MASK]
    if others:
        raise Unusable(_several(1 + len(others)))
    page = pages[0]
    if _first(page, _SUBFILE, 0) & 1:
        raise Unusable(
            "is a TIFF whose first picture is a small copy of another, such as a camera's raw "
            "file; expected the picture itself"
        )
    photometric = _first(page, _PHOTOMETRIC, 1)
    compression = _first(page, _COMPRESSION, 1)
    bits = _bits(page)
    return {
        "tag": _first(page, ExifTags.Base.Orientation, 1),
        "bits": bits,
        "sample": _SAMPLES.get(_first(page, _SAMPLE, 1), "floating point"),
        "extra": _first(page, _BANDS, 1) - _BASE_BANDS.get(photometric, 1),
        "lossy": None if compression in _LOSSLESS else f"TIFF with compression {compression}",
        "inverted": photometric == 0,
        "stretched": bits in (2, 4, 12) and photometric in (0, 1),
    }


def _bits(page: dict[int, Any]) -> int:
    value = page.get(_BITS, 1)
    return max(value) if isinstance(value, tuple) else int(value)


def _first(page: dict[int, Any], tag: int, default: int) -> int:
    value = page.get(tag, default)
    return int(value[0] if isinstance(value, tuple) else value)
