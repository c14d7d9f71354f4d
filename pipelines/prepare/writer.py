"""Write pairs in the canonical layout, in parallel processes.

What is written does not depend on their number, and no more pairs are in memory than there are
processes.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
from joblib.externals.loky.process_executor import TerminatedWorkerError
from PIL import Image

from pipelines.base.errors import PipelineError
from pipelines.prepare.faults import Fault, Unusable
from pipelines.prepare.labels import read_label
from pipelines.prepare.pairs import Pair
from pipelines.prepare.raster import read_image
from pipelines.study.cards import DataCard


@dataclass(frozen=True)
class Written:
    """What the account of a split needs to know of one pair."""

    stem: str
    suffix: str
    size: tuple[int, int]
    """(width, height)."""
    digest: str
    """Of the decoded image and label."""
    pixels: tuple[int, ...]
    """Of each class."""


def write_pairs(
    pairs: Iterable[Pair], card: DataCard, files: Path, folder: Path, split: str, jobs: int | None
) -> Iterator[Written | list[Fault]]:
    """Write `folder/images/<split>/` and `folder/labels/<split>/`; yields in order of the pairs.

    A pair that cannot be used gives what is wrong with its files, and is not written.

    Args:
        files: the folder of the raw files.
        jobs: processes; None for as many as the machine gives this one processors.

    Raises:
        PipelineError: when a process was killed.
    """
    for kind in ("images", "labels"):
        (folder / kind / split).mkdir(parents=True, exist_ok=True)
    parallel = joblib.Parallel(n_jobs=jobs or joblib.cpu_count(), return_as="generator")
    task = joblib.delayed(_write_raw)
    try:
        yield from parallel(task(pair, card, files, folder, split) for pair in pairs)
    except TerminatedWorkerError as error:
        raise PipelineError(
            f"{files}: a process that read from here was killed, perhaps for want of memory; "
            "expected more memory or a smaller --jobs"
        ) from error


def write_pair(
    image: np.ndarray, label: np.ndarray, card: DataCard, folder: Path, split: str, stem: str
) -> None:
    """Write an image (H, W, 3) uint8 and its class ids (H, W) uint8 as PNG."""
    Image.fromarray(image).save(folder / "images" / split / f"{stem}.png")
    _write_label(label, card, folder / "labels" / split / f"{stem}.png")


def class_pixels(label: np.ndarray, card: DataCard) -> np.ndarray:
    """Pixels (K,) int64 of each class in class ids (H, W)."""
    return np.bincount(label.ravel(), minlength=256)[: len(card.classes)]


def _write_raw(
    pair: Pair, card: DataCard, files: Path, folder: Path, split: str
) -> Written | list[Fault]:
    faults: list[Fault] = []
    label: np.ndarray | None = None
    image: np.ndarray | None = None
    try:
        label = read_label(files, pair.label, card)
    except Unusable as reason:
        faults.append(Fault(str(pair.label), str(reason)))
    size = None if label is None else (label.shape[1], label.shape[0])
    try:
        image, suffix = read_image(files / pair.image, size)
    except Unusable as reason:
        faults.append(Fault(pair.image, str(reason)))
    if label is None or size is None or image is None:
        return faults
    if suffix is None:
        suffix = ".png"
        write_pair(image, label, card, folder, split, pair.stem)
    else:
        shutil.copyfile(files / pair.image, folder / "images" / split / f"{pair.stem}{suffix}")
        _write_label(label, card, folder / "labels" / split / f"{pair.stem}.png")
    return Written(
        stem=pair.stem,
        suffix=suffix,
        size=size,
        digest=digest([(image, label)]),
        pixels=tuple(class_pixels(label, card).tolist()),
    )


def _write_label(label: np.ndarray, card: DataCard, path: Path) -> None:
    palette = [0] * 768
    for index, colour in enumerate(card.palette):
        palette[3 * index : 3 * index + 3] = colour
    indexed = Image.fromarray(label, mode="P")
    indexed.putpalette(palette)
    indexed.save(path)


def digest(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> str:
    """SHA-256 over decoded scenes, in order, as 64 hexadecimal digits.

    It covers each array's shape, type and values and not an encoded file, whose bytes would depend
    on the compression library.

    Args:
        pairs: ``(image, label)`` arrays, as `render_scene` returns them.
    """
    sha = hashlib.sha256()
    for pair in pairs:
        for array in pair:
            # Little-endian whatever the machine, so that the digest is the same on all of them.
            array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            sha.update(f"{array.shape}{array.dtype.str};".encode())
            sha.update(array.tobytes())
    return sha.hexdigest()
