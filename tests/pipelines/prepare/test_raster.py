"""Raw images and labels, whole and broken."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import ExifTags, Image

from pipelines.prepare.faults import Unusable
from pipelines.prepare.raster import read_colours, read_image, read_index
from tests.pipelines.prepare.raw import picture, truth

SIZE = (10, 8)
RGB = Image.fromarray(picture())


def encoded(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.fixture
def file(tmp_path):
    """A function: a file with the given bytes."""

    def write(content: bytes, name: str = "file.png"):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("image", "format", "suffix"),
    [
        (RGB, "PNG", ".png"),
        (RGB, "JPEG", ".jpg"),
        (RGB, "BMP", None),
        (RGB.convert("L"), "PNG", None),
        (RGB.convert("L"), "JPEG", None),
        (RGB.convert("CMYK"), "JPEG", None),
        (RGB.quantize(8), "PNG", None),
        (RGB.convert("RGBA"), "PNG", None),
    ],
)
def test_only_plain_rgb_files_may_be_copied(file, image, format, suffix):
    path = file(encoded(image, format))
    pixels, copied = read_image(path, SIZE)
    assert (pixels.shape, pixels.dtype, copied) == ((8, 10, 3), np.uint8, suffix)
    with Image.open(path) as again:
        assert (pixels == np.asarray(again.convert("RGB"))).all()


def test_more_than_8_bits_a_channel_are_refused(file):
    deep = Image.fromarray(truth().astype(np.uint16) * 1000)
    with pytest.raises(Unusable, match="more than 8 bits"):
        read_image(file(encoded(deep, "PNG")), SIZE)


def test_an_image_of_another_size_than_its_label_is_refused(file):
    with pytest.raises(Unusable, match="10 x 8 pixels and its label 8 x 10"):
        read_image(file(encoded(RGB, "PNG")), (8, 10))


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return encoded(RGB, "JPEG", exif=exif)


def test_an_image_is_turned_as_its_exif_data_says(file):
    plain, _ = read_image(file(turned(1)), SIZE)
    upside_down, copied = read_image(file(turned(3)), SIZE)
    assert copied is None
    assert (upside_down == plain[::-1, ::-1]).all()
    on_its_side, copied = read_image(file(turned(6)), (8, 10))
    assert copied is None
    assert (on_its_side == np.rot90(plain, -1)).all()


def test_an_image_is_not_turned_away_from_its_label(file):
    pixels, copied = read_image(file(turned(6)), SIZE)
    assert copied is None and pixels.shape == (8, 10, 3)


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
@pytest.mark.parametrize("part", [0, 0.02, 0.5, 0.9])
def test_a_truncated_image_is_refused(file, format, part):
    whole = encoded(Image.fromarray(picture(size=(64, 64))), format)
    with pytest.raises(Unusable, match="cannot be read"):
        read_image(file(whole[: int(part * len(whole))]), (64, 64))


def test_no_changed_byte_of_a_png_changes_its_pixels_unseen(file):
    """Decoding alone lets a good part of them pass."""
    blocks = np.kron(picture(size=(6, 6)) // 64, np.ones((4, 4, 1))).astype(np.uint8)
    whole = encoded(Image.fromarray(blocks), "PNG")
    seen = 0
    for place in range(8, len(whole)):
        content = bytearray(whole)
        content[place] ^= 1
        try:
            pixels, _ = read_image(file(bytes(content)), (24, 24))
        except Unusable:
            seen += 1
        else:
            assert (pixels == blocks).all()
    assert seen > 0.9 * len(whole)


@pytest.mark.parametrize("read", [read_index, read_colours, lambda path: read_image(path, SIZE)])
def test_what_is_no_image_or_not_there_is_refused(file, tmp_path, read):
    with pytest.raises(Unusable, match="cannot be read"):
        read(file(b"<html>not found</html>"))
    with pytest.raises(Unusable, match="no such file"):
        read(tmp_path / "gone.png")


def test_an_index_is_the_value_of_a_grey_image_or_of_one_with_a_palette(file):
    ids = truth()
    indexed = Image.fromarray(ids, mode="P")
    indexed.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
    for image in (Image.fromarray(ids), indexed):
        assert (read_index(file(encoded(image, "PNG"))) == ids).all()
    deep = ids.astype(np.uint16) + 450
    assert (read_index(file(encoded(Image.fromarray(deep), "PNG"))) == deep).all()
    assert (read_index(file(encoded(Image.fromarray(deep), "TIFF"))) == deep).all()
    assert (read_index(file(encoded(Image.fromarray(ids > 0), "PNG"))) == (ids > 0)).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_an_index_in_colours_is_refused(file, mode):
    with pytest.raises(Unusable, match=f"mode {mode}; expected grey"):
        read_index(file(encoded(Image.fromarray(truth()).convert(mode), "PNG")))


def test_grey_of_4_bits_is_refused(file):
    """Pillow stretches its values over 8 bits, so that ids would not be what was written."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 2, 1, 4, 0, 0, 0, 0)
    rows = zlib.compress(b"\x00\x12")
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    with pytest.raises(Unusable, match="expected grey of 8 or 16 bits"):
        read_index(file(png))


def test_labels_in_jpeg_are_refused(file):
    for read in (read_index, read_colours):
        with pytest.raises(Unusable, match="JPEG, which changes the values"):
            read(file(encoded(RGB.convert("L"), "JPEG")))
