"""Digests of prepared images and labels: of their pixels, not of the bytes of their files.

The bytes of a PNG depend on the library that compressed it, the pixels do not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.base.artifacts import sha256_json

_ROWS = 256
"""Of a picture that are decoded at once."""

Arrays = tuple[np.ndarray, np.ndarray]
"""An image (H, W, 3) and its label (H, W), both uint8."""


def digest(pairs: Iterable[tuple[np.ndarray | Image.Image, ...]]) -> str:
    """SHA-256 over decoded images and labels, in order, as 64 hexadecimal digits.

    It covers each array's shape, type and values; an RGB picture counts as its array (H, W, 3)
    uint8, which would take as much memory again.
    """
    sha = hashlib.sha256()
    for pair in pairs:
        for pixels in pair:
            if isinstance(pixels, Image.Image):
                sha.update(f"{(pixels.height, pixels.width, 3)}|u1;".encode())
                for _, rows in strips(pixels):
                    sha.update(rows.tobytes())
                continue
            # Little-endian whatever the machine, so that the digest is the same on all of them.
            array = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<"))
            sha.update(f"{array.shape}{array.dtype.str};".encode())
            sha.update(array.data.cast("B"))
    return sha.hexdigest()


def strips(picture: Image.Image) -> Iterator[tuple[int, np.ndarray]]:
    """Some rows after others, with the number of the first."""
    for top in range(0, picture.height, _ROWS):
        bottom = min(top + _ROWS, picture.height)
        yield top, np.asarray(picture.crop((0, top, picture.width, bottom)))


def digest_of_files(pairs: Iterable[tuple[str, str]]) -> str:
    """Of a split of files: the sha256 of the JSON list of (stem, `digest` of the pair) in order of
    the stems, since the pairs are digested in parallel."""
    return sha256_json(sorted([stem, digest] for stem, digest in pairs))


def split_files(folder: Path, split: str) -> list[Path]:
    """All files of a split below the folder of prepared data, in order."""
    places = (folder / kind / split for kind in ("images", "labels"))
    return [path for place in places for path in sorted(place.glob("*")) if path.is_file()]


def digest_on_disk(folder: Path, split: str, *, drawn: bool) -> str:
    """The digest of a split as it lies below `folder` now, which prepare calls its digest.

    Args:
        drawn: whether the split is of drawn scenes, which are digested in one go.

    Raises:
        OSError: when a file cannot be decoded, or an image has no label.
    """
    images, labels = (
        {path.stem: path for path in split_files(folder, split) if path.parts[-3] == kind}
        for kind in ("images", "labels")
    )
    if alone := sorted(images.keys() ^ labels.keys()):
        raise OSError(f"{split}/{alone[0]} is an image or a label alone")

    def decoded(stem: str) -> Arrays:
        with Image.open(images[stem]) as image, Image.open(labels[stem]) as label:
            return np.asarray(image), np.asarray(label)

    if drawn:
        return digest(decoded(stem) for stem in sorted(images))
    with ThreadPoolExecutor() as pool:
        digests = pool.map(lambda stem: digest([decoded(stem)]), sorted(images))
        return digest_of_files(zip(sorted(images), digests, strict=True))
