"""Which images a person means, what their results are called, and how they are read."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin

from sar.errors import SarError
from sar.large_images import MAX_PIXELS, any_size

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
"""Of the files that count as images in a folder; any file can be named itself."""

# Tags of TIFF 6.0, and the kinds of pages that belong to another: overviews and masks.
_SUBFILE, _BITS, _BANDS = 254, 258, 277
_REDUCED_OR_MASK = 0b101


def find_images(names: Iterable[str], apart_from: Path) -> tuple[list[Path], list[str]]:
    """The files that are meant, each once, and a line for each name to which nothing belongs.

    Args:
        names: of files, folders (with all that is below them) and patterns (`**` for any folders).
        apart_from: a folder in which nothing is found, since results go there.
    """
    found: dict[Path, Path] = {}
    lost = []
    for name in names:
        paths = [Path(name)] if Path(name).exists() else sorted(map(Path, _matches(name)))
        files = [file for path in paths for file in _files(path, apart_from.resolve())]
        for file in files:
            found.setdefault(file.resolve(), file)
        if not files:
            lost.append(f"{name}: {_why_nothing(name)}")
    return list(found.values()), lost


def result_names(paths: Sequence[Path]) -> list[str]:
    """A name for the result of each image, no two alike even where case does not count.

    Its stem; if two have one, all are named by their paths below the folder that holds them all,
    with `__` for a slash; then with their suffixes too; at last by their numbers.
    """
    top = _common_folder(paths)
    below = [path.resolve().relative_to(top) for path in paths]
    long = ["__".join(path.with_suffix("").parts) for path in below]
    for names in (
        [path.stem for path in paths],
        long,
        [f"{name}_{path.suffix[1:]}" for name, path in zip(long, below, strict=True)],
    ):
        if len({name.casefold() for name in names}) == len(names):
            return names
    return [f"{index:06d}_{path.stem}" for index, path in enumerate(paths)]


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """An image in RGB, turned as its camera says.

    Raises:
        SarError: when it cannot be read, has more than `max_pixels`, or is more than one picture of
            8 bits a channel in grey or colours, so that something of it would be left out unseen.
    """
    try:
        with any_size(), Image.open(path) as file:
            lost = _too_large(file.size, max_pixels) or _cut(file)
            if not lost:
                # TIFF files are turned when they are decoded, others here.
                image = ImageOps.exif_transpose(file)
                lost = _transparent(image)
    except Exception as error:  # Decoders raise whatever a broken file leads them to.
        raise SarError(f"{path}: cannot be read: {error}") from error
    if lost:
        raise SarError(f"{path}: {lost}")
    return image.convert("RGB")


def _too_large(sides: tuple[int, int], most: int) -> str | None:
    if sides[0] * sides[1] <= most:
        return None
    return f"{sides[0]} x {sides[1]} pixels, more than {most} in all; --max-pixels raises the limit"


def _cut(file: ImageFile.ImageFile) -> str | None:
    """What of a file that is not decoded yet Pillow would leave out, or change."""
    bits = _bits(file)
    if bits > 8 or file.mode.startswith(("I", "F")):
        return f"not 8 bits a channel (mode {file.mode}); scale its values as they should be seen"
    if isinstance(file, TiffImagePlugin.TiffImageFile):
        bands = file.tag_v2.get(_BANDS, 1)
        if bands > len(file.getbands()):
            return f"{bands} bands, more than colours; expected grey or RGB: choose three"
        for page in range(1, file.n_frames):
            file.seek(page)
            if not file.tag_v2.get(_SUBFILE, 0) & _REDUCED_OR_MASK:
                return f"{file.n_frames} pages; expected one picture"
        file.seek(0)
    elif file.format != "MPO" and getattr(file, "n_frames", 1) > 1:  # previews are no pictures
        return "an animation; expected one picture"
    return None


def _bits(file: ImageFile.ImageFile) -> int:
    """A channel, as stored."""
    if isinstance(file, TiffImagePlugin.TiffImageFile):
        bits = file.tag_v2.get(_BITS, 1)
        return max(bits) if isinstance(bits, tuple) else int(bits)
    if file.format == "JPEG2000":
        assert file.fp is not None  # It is not decoded yet.
        place = file.fp.tell()
        file.fp.seek(0)
        head = file.fp.read(1 << 20)
        file.fp.seek(place)
        segment = head.index(b"\xff\x4f\xff\x51")  # SIZ: bands from byte 40 on, of three bytes
        return max((head[segment + 42 + 3 * k] & 0x7F) + 1 for k in range(head[segment + 41]))
    arguments = file.tile[0].args if file.tile else None
    if file.format == "PPM" and isinstance(arguments, tuple) and isinstance(arguments[1], int):
        return arguments[1].bit_length()
    return 16 if ";16" in str(arguments) else 8


def _transparent(image: Image.Image) -> str | None:
    if not image.has_transparency_data:
        return None
    if image.convert("RGBA").getchannel("A").getextrema()[0] == 255:
        return None
    return "a fourth band that is not 255 throughout; expected RGB: lay it over a ground"


def bgr(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 in the order in which mmsegmentation's transforms expect channels."""
    return np.ascontiguousarray(np.asarray(image)[..., ::-1])


def _why_nothing(name: str) -> str:
    if Path(name).is_dir():
        return f"no image in this folder; expected files in {', '.join(sorted(SUFFIXES))}"
    if glob.has_magic(name):
        return "no image fits this pattern"
    return "no such file or folder"


def _matches(pattern: str) -> list[str]:
    return glob.glob(pattern, recursive=True)


def _files(path: Path, apart_from: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return [
        file
        for file in sorted(path.rglob("*"))
        if file.suffix.lower() in SUFFIXES
        and file.is_file()
        and not file.resolve().is_relative_to(apart_from)
    ]


def _common_folder(paths: Sequence[Path]) -> Path:
    folders = [path.resolve().parent for path in paths]
    top = folders[0]
    while not all(folder.is_relative_to(top) for folder in folders):
        top = top.parent
    return top
