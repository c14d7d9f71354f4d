"""Raw images and labels, whole and broken."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from pipelines.prepare.faults import Unusable
from pipelines.prepare.orientation import turned
from pipelines.prepare.raster import read_binary, read_colours, read_image, read_index
from tests.pipelines.prepare.raw import picture, truth
from tests.tiff import tiff

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
    picture, tag, copied = read_image(path)
    assert (picture.size, picture.mode, tag, copied) == (SIZE, "RGB", 1, suffix)
    with Image.open(path) as again:
        assert (np.asarray(picture) == np.asarray(again.convert("RGB"))).all()


WORDS = picture().astype(np.uint16) * 15
FOUR = np.dstack([picture(), picture(1)[..., 0]])
OPAQUE = np.dstack([picture(), np.full((8, 10), 255, np.uint8)])


def by_opencv(array: np.ndarray, suffix: str) -> bytes:
    """What Pillow does not write: 16 bits a channel. Colours are in the order blue, green, red."""
    return cv2.imencode(suffix, array)[1].tobytes()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tiff(WORDS), "more than 8 bits"),
        (tiff(WORDS, order=">"), "more than 8 bits"),
        (tiff(WORDS, planar=True), "more than 8 bits"),
        (tiff(WORDS[..., 0]), "more than 8 bits"),
        (tiff(np.dstack([WORDS, WORDS[..., 0]]), extra=(2,)), "more than 8 bits"),
        (by_opencv(WORDS, ".png"), "more than 8 bits"),
        (by_opencv(WORDS[..., 0], ".png"), "more than 8 bits"),
        (by_opencv(np.zeros((64, 64, 3), np.uint16), ".jp2"), "more than 8 bits"),
        (b"P6 10 8 65535\n" + WORDS.astype(">u2").tobytes(), "more than 8 bits"),
        (b"P6 10 8 4000\n" + WORDS.astype(">u2").tobytes(), "more than 8 bits"),
        (tiff(picture()[..., 0].astype(np.float32)), "mode F"),
        (tiff(picture().astype(np.float32)), "3 bands of 32 bits, floating point"),
        (tiff(picture().astype(np.int8)), "3 bands of 8 bits, signed"),
        (tiff(picture()[..., 0].astype(np.int8)), "signed"),
        (tiff(FOUR, extra=(0,)), "bands beside its colours"),
        (tiff(np.dstack([FOUR, FOUR]), extra=(2, 0, 0, 0, 0)), "8 bands of 8 bits"),
        (tiff(FOUR[..., :2], photometric=1, extra=(0,)), "bands beside its colours"),
        (tiff(FOUR, extra=(1,)), "fourth band that is not 255"),
        (tiff(FOUR, extra=(2,)), "fourth band that is not 255"),
        (encoded(Image.fromarray(FOUR), "PNG"), "fourth band that is not 255"),
        (encoded(Image.fromarray(FOUR), "WEBP", lossless=True), "fourth band that is not 255"),
        (tiff(picture(), photometric=8), "mode LAB"),
    ],
)
def test_what_would_be_cut_or_left_out_of_an_image_is_refused(file, content, reason):
    with pytest.raises(Unusable, match=reason) as error:
        read_image(file(content))
    assert "expected" in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        tiff(picture()),
        tiff(picture(), order=">"),
        tiff(picture(), planar=True),
        tiff(picture(), picture()[::2, ::2], tags={254: 1}),  # an overview
        tiff(OPAQUE, extra=(2,)),
        tiff(OPAQUE, extra=(1,)),
        encoded(Image.fromarray(OPAQUE), "PNG"),
        by_opencv(picture()[..., ::-1], ".ppm"),
    ],
)
def test_what_loses_nothing_is_read_as_it_is(file, content):
    assert (np.asarray(read_image(file(content)).pixels) == picture()).all()


def test_grey_with_a_premultiplied_band_is_read_where_it_is_opaque(file):
    grey = picture()[..., 0]
    opaque = tiff(np.dstack([grey, np.full_like(grey, 255)]), photometric=1, extra=(1,))
    assert (np.asarray(read_image(file(opaque)).pixels) == grey[..., None]).all()


def test_transparent_colours_of_a_palette_or_a_key_are_refused_where_they_occur(file):
    indexed = RGB.quantize(8)
    used = int(np.asarray(indexed)[0, 0])
    with pytest.raises(Unusable, match="fourth band"):
        read_image(file(encoded(indexed, "PNG", transparency=used)))
    with pytest.raises(Unusable, match="fourth band"):
        read_image(file(encoded(RGB, "PNG", transparency=tuple(picture()[0, 0].tolist()))))
    seldom = encoded(Image.fromarray(picture() // 2), "PNG", transparency=(255, 255, 255))
    assert (np.asarray(read_image(file(seldom)).pixels) == picture() // 2).all()


@pytest.mark.parametrize("read", [read_image, read_index, read_colours])
@pytest.mark.parametrize("format", ["PNG", "GIF", "WEBP", "TIFF"])
def test_several_pictures_in_a_file_are_refused(file, read, format):
    two = encoded(RGB, format, save_all=True, append_images=[Image.fromarray(picture(1))])
    with pytest.raises(Unusable, match="has 2 pictures"):
        read(file(two))


@pytest.mark.parametrize("read", [read_image, read_index, read_colours])
def test_a_thumbnail_is_not_taken_for_the_picture(file, read):
    with pytest.raises(Unusable, match="small copy of another, such as a camera's raw file"):
        read(file(tiff(picture(), tags={254: 1})))


@pytest.mark.parametrize("read", [read_image, read_index, read_colours])
def test_other_formats_are_named(file, read):
    with pytest.raises(Unusable, match="is a TGA file; expected PNG"):
        read(file(encoded(RGB, "TGA"), "a.tga"))


def test_a_file_of_more_pixels_than_the_limit_is_not_decoded(file, monkeypatch):
    path = file(encoded(RGB, "PNG"))
    assert read_image(path, 80).pixels.size == SIZE
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    for read in (read_image, read_index, read_colours):
        with pytest.raises(Unusable, match="10 x 8 pixels, more than 79 .* source.max_pixels"):
            read(path, 79)


def test_the_limit_is_the_card_s_not_pillow_s(file, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert read_image(file(encoded(RGB, "PNG"))).pixels.size == SIZE
    assert read_image(file(encoded(RGB, "TIFF"))).pixels.size == SIZE
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_those_that_are_stored_and_the_tag_says_how_they_are_turned(
    file, format, orientation
):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    lossless = {"lossless": True} if format == "WEBP" else {}
    content = encoded(RGB, format, exif=exif, **lossless)
    path = file(content)
    stored, tag, suffix = read_image(path)
    assert (tag, suffix is None) == (orientation, orientation != 1 or format not in ("JPEG", "PNG"))
    with Image.open(path) as again:
        upright = ImageOps.exif_transpose(again).convert("RGB")
    assert (np.asarray(turned(stored, tag)) == np.asarray(upright)).all()
    if format != "JPEG":
        assert (np.asarray(stored) == picture()).all()
        assert (read_colours(path).values == picture()).all()
        assert read_colours(path).tag == orientation


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
@pytest.mark.parametrize("part", [0, 0.02, 0.5, 0.9])
def test_a_truncated_image_is_refused(file, format, part):
    whole = encoded(Image.fromarray(picture(size=(64, 64))), format)
    with pytest.raises(Unusable, match="cannot be read"):
        read_image(file(whole[: int(part * len(whole))]))


def test_no_changed_byte_of_a_png_changes_its_pixels_unseen(file):
    """Decoding alone lets a good part of them pass."""
    blocks = np.kron(picture(size=(6, 6)) // 64, np.ones((4, 4, 1))).astype(np.uint8)
    whole = encoded(Image.fromarray(blocks), "PNG")
    seen = 0
    for place in range(8, len(whole)):
        content = bytearray(whole)
        content[place] ^= 1
        try:
            pixels = read_image(file(bytes(content))).pixels
        except Unusable:
            seen += 1
        else:
            assert (np.asarray(pixels) == blocks).all()
    assert seen > 0.9 * len(whole)


@pytest.mark.parametrize("read", [read_index, read_colours, read_image])
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
        assert (read_index(file(encoded(image, "PNG"))).values == ids).all()
    colours = read_index(file(encoded(indexed, "PNG"))).palette[:3]
    assert colours.tolist() == [[200, 0, 0], [0, 200, 0], [0, 0, 200]]
    deep = ids.astype(np.uint16) + 450
    assert (read_index(file(encoded(Image.fromarray(deep), "PNG"))).values == deep).all()
    assert (read_index(file(encoded(Image.fromarray(ids > 0), "PNG"))).values == (ids > 0)).all()


@pytest.mark.parametrize(
    "kind", ["u1", "i1", "<u2", ">u2", "<i2", ">i2", "<u4", "<i4", ">i4", "<f4", ">f4"]
)
def test_whole_numbers_of_any_type_are_ids(file, kind):
    ids = truth()
    order = kind[0] if kind[0] in "<>" else "<"
    read = read_index(file(tiff(ids.astype(kind), order=order))).values
    assert (read == ids).all() and read.dtype in (np.uint8, np.uint16)


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (truth().astype(np.int8) - 1, r"from -1 to 1\)"),
        (truth().astype(np.int16) - 1, r"from -1 to 1\)"),
        (truth().astype(np.int32) - 1, r"from -1 to 1\)"),
        (truth().astype(np.int32) + 70000, r"from 70000 to 70002\)"),
        (truth().astype(np.float32) / 2, r"from 0 to 1\)"),
        (np.full((8, 10), np.nan, np.float32), r"from nan to nan\)"),
    ],
)
def test_other_numbers_are_no_ids(file, array, told):
    with pytest.raises(Unusable, match=told):
        read_index(file(tiff(array)))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_grey_that_is_stored_as_colours_is_an_index(file, mode):
    path = file(encoded(Image.fromarray(truth()).convert(mode), "PNG"))
    assert (read_index(path).values == truth()).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_an_index_in_colours_is_refused(file, mode):
    with pytest.raises(Unusable, match=f"mode {mode}, 8 bits.*expected grey.*encoding: colour"):
        read_index(file(encoded(RGB.convert(mode), "PNG")))


@pytest.mark.parametrize("alpha", [0, 255, 65535])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_mask_of_16_bits_and_four_bands_is_read_whole(file, suffix, alpha):
    """Pillow would give the high bytes: 0 throughout."""
    ids = truth().astype(np.uint16)
    bands = np.dstack([ids, ids, ids, np.full_like(ids, alpha)])
    content = by_opencv(bands, ".png") if suffix == ".png" else tiff(bands, extra=(2,))
    assert (read_index(file(content)).values == ids).all()
    deep = np.dstack([ids + 450] * 3)
    assert (read_index(file(by_opencv(deep, suffix))).values == ids + 450).all()


@pytest.mark.parametrize("read", [read_index, read_colours])
def test_what_of_16_bits_cannot_be_read_whole_is_refused(file, read):
    deep = np.dstack([truth().astype(np.uint16)] * 5)
    turned_by = {ExifTags.Base.Orientation: 3}
    for content in (tiff(deep[..., :3], tags=turned_by), tiff(deep, extra=(0, 0))):
        with pytest.raises(Unusable, match="expected"):
            read(file(content))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("factor", [1, 257])
def test_colours_of_16_bits_are_read_where_they_fit_8(file, suffix, factor):
    alpha = np.full((8, 10), 65535, np.uint16)
    bands = np.dstack([picture().astype(np.uint16)[..., ::-1] * factor, alpha])
    assert (read_colours(file(by_opencv(bands, suffix))).values == picture()).all()
    bands[0, 0, 0] = 300
    with pytest.raises(Unusable, match="16 bits that do not fit 8"):
        read_colours(file(by_opencv(bands, suffix)))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (encoded(RGB, "JPEG"), "is a JPEG, which changes"),
        (encoded(RGB, "MPO"), "is a JPEG, which changes"),
        (encoded(RGB, "WEBP"), "is a lossy WebP"),
        (encoded(RGB.convert("RGBA"), "WEBP", exif=Image.Exif()), "is a lossy WebP"),
        (encoded(RGB, "JPEG2000"), "is a JPEG 2000"),
        (encoded(RGB, "TIFF", compression="jpeg"), "TIFF with compression 7"),
        (encoded(RGB.convert("L"), "TIFF", compression="jpeg"), "TIFF with compression 7"),
        (encoded(RGB.convert("CMYK"), "TIFF"), "mode CMYK"),
        (tiff(truth(), photometric=0), "0 is white"),
        (b"P5 10 8 20\n" + truth().tobytes(), "values are not of 8 or 16 bits"),
        (b"P5 10 8 4000\n" + truth().astype(">u2").tobytes(), "values are not of 8 or 16 bits"),
    ],
)
def test_labels_whose_values_are_changed_are_refused(file, content, reason):
    for read in (read_index, read_colours):
        with pytest.raises(Unusable, match=reason):
            read(file(content))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_labels_in_tiff_without_a_loss_are_read(file, compression):
    content = encoded(Image.fromarray(truth()), "TIFF", compression=compression)
    assert (read_index(file(content)).values == truth()).all()


def test_lossless_webp_and_gif_are_read(file):
    colours = Image.fromarray(np.array([[9, 9, 9], [0, 200, 0], [250, 0, 0]], np.uint8)[truth()])
    for content in (encoded(colours, "WEBP", lossless=True), encoded(colours, "GIF")):
        assert (read_colours(file(content)).values == np.asarray(colours)).all()


def test_the_mask_of_one_class_is_black_and_one_other(file):
    for value in (1, 7, 255):
        path = file(encoded(Image.fromarray((truth() > 0).astype(np.uint8) * value), "PNG"))
        assert (read_binary(path).values == (truth() > 0)).all()
    flipped = Image.fromarray((truth() == 0).astype(np.uint8), mode="P")
    flipped.putpalette([255, 255, 255, 0, 0, 0])  # white is 0, and black 1
    assert (read_binary(file(encoded(flipped, "PNG"))).values == (truth() > 0)).all()
    bare = Image.fromarray((truth() > 0).astype(np.uint8), mode="P")
    bare.putpalette([0] * 6)
    assert (read_binary(file(encoded(bare, "PNG"))).values == (truth() > 0)).all()
    for grey, told in ((truth() * 100, "0, 100, 200"), (truth() % 2 + 3, "3, 4")):
        with pytest.raises(Unusable, match=f"has the values {told}; expected the mask"):
            read_binary(file(encoded(Image.fromarray(grey), "PNG")))


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
    with pytest.raises(Unusable, match="expected grey of 8 or 16 bits"):
        read_index(file(tiff(truth() * 16, tags={258: 4})))
