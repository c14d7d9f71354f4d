"""Which images a person means, what their results are called, and how they are read."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from sar.errors import SarError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
"""Of the files that count as images in a folder; any file can be named itself."""


def find_images(names: Iterable[str], apart_from: Path) -> tuple[list[Path], list[str]]:
    """The files that are meant, each once, and the names to which nothing belongs.

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
            lost.append(name)
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


def read_image(path: Path) -> Image.Image:
    """An image in RGB, turned as its camera says.

    Raises:
        SarError: when it cannot be read, or is not of 8 bits.
    """
    try:
        with Image.open(path) as file:
            if file.mode.startswith(("I", "F")):
                raise SarError(f"{path}: not 8 bits a channel (mode {file.mode})")
            return ImageOps.exif_transpose(file).convert("RGB")
    except SarError:
        raise
    except Exception as error:  # Decoders raise whatever a broken file leads them to.
        raise SarError(f"{path}: cannot be read: {error}") from error


def bgr(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 in the order in which mmsegmentation's transforms expect channels."""
    return np.ascontiguousarray(np.asarray(image)[..., ::-1])


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
