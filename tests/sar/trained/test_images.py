"""Images to predict: what is read as it is, and what would lose something unseen."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from sar.errors import SarError
from sar.trained.images import read_image
from tests.tiff import tiff

BYTES = np.random.default_rng(0).integers(0, 256, (8, 10, 3)).astype(np.uint8)
WORDS = BYTES.astype(np.uint16) * 15
FOUR = np.dstack([BYTES, BYTES[..., 0]])
OPAQUE = np.dstack([BYTES, np.full((8, 10), 255, np.uint8)])


def encoded(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def by_opencv(array: np.ndarray, suffix: str) -> bytes:
    return cv2.imencode(suffix, array)[1].tobytes()


FRAMES = [Image.fromarray(BYTES), Image.fromarray(255 - BYTES)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tiff(WORDS), "not 8 bits a channel"),
        (tiff(WORDS, planar=True), "not 8 bits a channel"),
        (tiff(WORDS, order=">"), "not 8 bits a channel"),
        (tiff(WORDS[..., 0]), "not 8 bits a channel"),
        (by_opencv(WORDS, ".png"), "not 8 bits a channel"),
        (by_opencv(np.zeros((64, 64, 3), np.uint16), ".jp2"), "not 8 bits a channel"),
        (b"P6 10 8 65535\n" + WORDS.astype(">u2").tobytes(), "not 8 bits a channel"),
        (b"P6 10 8 4000\n" + WORDS.astype(">u2").tobytes(), "not 8 bits a channel"),
        (tiff(FOUR, extra=(0,)), "4 bands"),
        (tiff(FOUR, extra=(2,)), "fourth band"),
        (encoded(Image.fromarray(FOUR), "PNG"), "fourth band"),
        (tiff(BYTES, BYTES), "2 pages"),
        (encoded(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]), "animation"),
        (encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]), "animation"),
        (b"<html>", "cannot be read"),
        (tiff(BYTES)[:200], "cannot be read"),
    ],
)
def test_what_would_be_left_out_unseen_is_refused(tmp_path, content, reason):
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(SarError, match=f"a.tif: .*{reason}"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "content",
    [
        tiff(BYTES),
        tiff(BYTES, planar=True),
        tiff(BYTES, BYTES[::2, ::2], tags={254: 1}),  # an overview
        tiff(OPAQUE, extra=(2,)),
        encoded(Image.fromarray(BYTES), "PNG"),
        encoded(Image.fromarray(OPAQUE), "PNG"),
        by_opencv(BYTES[..., ::-1], ".ppm"),
    ],
)
def test_what_is_rgb_of_8_bits_is_read_as_it_is(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert (np.asarray(read_image(tmp_path / "a")) == BYTES).all()


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_an_image_is_turned_as_its_camera_says(tmp_path, format):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    (tmp_path / "a").write_bytes(encoded(Image.fromarray(BYTES), format, exif=exif))
    assert (np.asarray(read_image(tmp_path / "a")) == np.rot90(BYTES, -1)).all()


def test_the_limit_of_pixels_is_the_one_that_was_asked_for_and_not_the_decoders(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    (tmp_path / "a").write_bytes(encoded(Image.fromarray(BYTES), "PNG"))
    assert (np.asarray(read_image(tmp_path / "a", 80)) == BYTES).all()
    with pytest.raises(SarError, match="10 x 8 pixels, more than 79 in all; --max-pixels"):
        read_image(tmp_path / "a", 79)
    assert Image.MAX_IMAGE_PIXELS == 10
