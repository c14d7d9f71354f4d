"""Write pairs in the canonical layout, in parallel processes.

What is written does not depend on their number, and no more pairs are in memory than there are
processes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
from joblib.externals.loky.process_executor import TerminatedWorkerError
from PIL import Image

from pipelines.base.errors import PipelineError
from pipelines.base.pixels import digest
from pipelines.prepare.faults import Fault, Unusable
from pipelines.prepare.labels import class_pixels, read_tagged
from pipelines.prepare.orientation import Rule, Tagged, turned
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
    image: str
    """Digest of the decoded image alone."""
    pixels: tuple[int, ...]
    """Of each class."""
    tags: tuple[bool, bool]
    """Whether image and label have an EXIF orientation."""


def write_pairs(
    pairs: Iterable[Pair],
    card: DataCard,
    files: Path,
    folder: Path,
    split: str,
    jobs: int | None,
    rule: Rule | None,
) -> Iterator[Written | list[Fault] | Tagged]:
    """Write `folder/images/<split>/` and `folder/labels/<split>/`; yields in order of the pairs.

    A pair that cannot be used gives what is wrong with its files, and is not written. Nor is one
    with an EXIF orientation as long as there is no rule.

    Args:
        files: the folder of the raw files.
        rule: whether files are turned as their EXIF orientations say.
        jobs: processes; None for as many as the machine gives this one processors.

    Raises:
        PipelineError: when a process was killed.
    """
    for kind in ("images", "labels"):
        (folder / kind / split).mkdir(parents=True, exist_ok=True)
    parallel = joblib.Parallel(n_jobs=jobs or joblib.cpu_count(), return_as="generator")
    task = joblib.delayed(_write_raw)
    try:
        yield from parallel(task(pair, card, files, folder, split, rule) for pair in pairs)
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


def _write_raw(
    pair: Pair, card: DataCard, files: Path, folder: Path, split: str, rule: Rule | None
) -> Written | list[Fault] | Tagged:
    faults: list[Fault] = []
    # The image first: what decoding takes on the way is given back before the label needs some.
    try:
        image, image_tag, suffix = read_image(files / pair.image, card.files.max_pixels)
    except Unusable as error:
        faults.append(Fault(pair.image, str(error)))
    try:
        label, label_tag = read_tagged(files, pair.label, card)
    except Unusable as error:
        faults.append(Fault(str(pair.label), str(error)))
    if faults:
        return faults
    tagged = image_tag != 1 or label_tag != 1
    size = (label.shape[1], label.shape[0])
    if tagged and rule is None:
        return Tagged(pair.image, image.size, image_tag, str(pair.label), size, label_tag)
    if tagged and rule == "turn":
        image = turned(image, image_tag)
        label = np.asarray(turned(Image.fromarray(label), label_tag))
        size = (label.shape[1], label.shape[0])
    if image.size != size:
        reason = (
            f"has {image.width} x {image.height} pixels and its label {size[0]} x {size[1]}; "
            "expected one size"
        )
        if tagged:
            reason += f" (EXIF orientation {image_tag} and {label_tag}, source.exif: {rule})"
        return [Fault(pair.image, reason)]
    if suffix is None:
        suffix = ".png"
        image.save(folder / "images" / split / f"{pair.stem}.png")
    else:
        shutil.copyfile(files / pair.image, folder / "images" / split / f"{pair.stem}{suffix}")
    _write_label(label, card, folder / "labels" / split / f"{pair.stem}.png")
    return Written(
        stem=pair.stem,
        suffix=suffix,
        size=size,
        digest=digest([(image, label)]),
        image=digest([(image,)]),
        pixels=tuple(class_pixels(label, card).tolist()),
        tags=(image_tag != 1, label_tag != 1),
    )


def _write_label(label: np.ndarray, card: DataCard, path: Path) -> None:
    palette = [0] * 768
    for index, colour in enumerate(card.palette):
        palette[3 * index : 3 * index + 3] = colour
    indexed = Image.fromarray(label, mode="P")
    indexed.putpalette(palette)
    indexed.save(path)
