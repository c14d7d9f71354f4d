"""What an image and its label hold, before a card says what that means; in parallel processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import joblib
import numpy as np
from tqdm import tqdm

from pipelines.base.errors import PipelineError
from pipelines.base.pixels import digest
from pipelines.prepare import faults as trouble
from pipelines.prepare.arrays import read_array
from pipelines.prepare.faults import Fault, Unusable
from pipelines.prepare.labels import Label, read_tagged
from pipelines.prepare.matlab import read_matrix
from pipelines.prepare.orientation import Tagged, rule_for
from pipelines.prepare.raster import read_colours, read_image, read_index
from pipelines.prepare.split_lists import thumbnail
from pipelines.study.cards import DataCard
from sar.large_images import MAX_PIXELS

MOST = 4096
"""Distinct values of a label that are kept, the most frequent: labels have few."""


@dataclass(frozen=True)
class Reader:
    """How labels are read: as pictures, or as the rest says."""

    encoding: str = "raster"
    key: str = ""
    """Of a matrix."""
    card: DataCard | None = None
    """Of labels with names, the card by which they are drawn."""


@dataclass(frozen=True)
class Look:
    """A pair as it lies in its files."""

    image: str
    label: str
    size: tuple[int, int]
    """(width, height) of the image, as stored."""
    tag: int
    """Its EXIF orientation."""
    label_size: tuple[int, int]
    label_tag: int
    digest: str
    """Of the image's pixels."""
    thumbnail: np.ndarray
    """(256,) float64."""
    pixels: dict[int, int]
    """Of each raw id, colour (red << 16 | green << 8 | blue) or, of labels with names, class id."""
    coloured: bool = False
    """Whether `pixels` are of colours."""
    palette: dict[int, int] | None = None
    """Of an indexed picture, the colours of the indices that occur."""
    inside: dict[int, int] = field(default_factory=dict)
    """Pixels of each value whose neighbours to the right, below and between have it too."""
    distinct: int = 0
    """Values that occur, also where not all were kept."""

    @property
    def tagged(self) -> Tagged:
        return Tagged(self.image, self.size, self.tag, self.label, self.label_size, self.label_tag)


def look_at_all(
    files: Path, pairs: Sequence[tuple[str, Label]], reader: Reader, jobs: int | None
) -> tuple[list[Look], list[Fault]]:
    """Look at each pair; what cannot be used is in the second list."""
    parallel = joblib.Parallel(n_jobs=jobs or joblib.cpu_count(), return_as="generator")
    results = parallel(joblib.delayed(_look)(files, pair, reader) for pair in pairs)
    looks, faults = [], []
    for result in tqdm(results, total=len(pairs), desc="looking", unit="image", disable=None):
        if isinstance(result, Look):
            looks.append(result)
        else:
            faults += result
    unfit = [fault for look in looks if (fault := _misfit(look)) is not None]
    gone = {fault.file for fault in unfit}
    return [look for look in looks if look.image not in gone], faults + unfit


def refused(where: str, faults: Sequence[Fault]) -> PipelineError:
    """One error for all `faults`, without a word on what a card may do about them."""
    return trouble.error(where, [replace(fault, fatal=True) for fault in faults])


def orientation(looks: Sequence[Look]) -> tuple[str | None, list[Fault]]:
    """`source.exif` of a card: None where prepare finds the rule itself or needs none."""
    tagged = [look.tagged for look in looks if look.tag != 1 or look.label_tag != 1]
    if not tagged:
        return None, []
    _, faults = rule_for(tagged)
    if faults and not any(pair.says for pair in tagged):
        return "turn", []
    return None, faults


def _look(files: Path, pair: tuple[str, Label], reader: Reader) -> Look | list[Fault]:
    image, label = pair
    faults = []
    try:
        picture = read_image(files / image)
        known = digest([(picture.pixels,)]), thumbnail(picture.pixels)
    except Unusable as error:
        faults.append(Fault(image, str(error)))
    try:
        values, tag, coloured, palette = _read(files, label, reader)
    except Unusable as error:
        faults.append(Fault(str(label), str(error)))
    if faults:
        return faults
    counts = _counts(values)
    kept = dict(sorted(counts.items(), key=lambda item: -item[1])[:MOST])
    return Look(
        image=image,
        label=str(label),
        size=picture.pixels.size,
        tag=picture.tag,
        label_size=(values.shape[1], values.shape[0]),
        label_tag=tag,
        digest=known[0],
        thumbnail=known[1],
        pixels=kept,
        coloured=coloured,
        palette=None if palette is None else {i: palette[i] for i in kept if i in palette},
        inside=_counts(values[:-1, :-1][_is_inside(values)]),
        distinct=len(counts),
    )


def _read(
    files: Path, label: Label, reader: Reader
) -> tuple[np.ndarray, int, bool, dict[int, int] | None]:
    """(H, W) values, EXIF orientation, whether they are colours, and the colours of indices."""
    if reader.card is not None:
        return *read_tagged(files, label, reader.card), False, None
    path = files / str(label)
    if reader.encoding == "array":
        return read_array(path, MAX_PIXELS), 1, False, None
    if reader.encoding == "matrix":
        return read_matrix(path, reader.key), 1, False, None
    try:
        values, tag, palette = read_index(path)
    except Unusable as no_index:
        try:
            colours, tag, _ = read_colours(path)
        except Unusable:
            raise no_index from None
        weights = np.array([1 << 16, 1 << 8, 1], dtype=np.int32)
        return colours.astype(np.int32) @ weights, tag, True, None
    codes = None
    if palette is not None:
        codes = {i: r << 16 | g << 8 | b for i, (r, g, b) in enumerate(palette.tolist())}
    return values, tag, False, codes


def _is_inside(values: np.ndarray) -> np.ndarray:
    """(H - 1, W - 1) bool: equal to the three neighbours to the right and below."""
    corner = values[:-1, :-1]
    same = corner == values[:-1, 1:]
    same &= corner == values[1:, :-1]
    same &= corner == values[1:, 1:]
    return same


def _counts(values: np.ndarray) -> dict[int, int]:
    if values.dtype == np.uint8:
        bins = np.bincount(values.ravel(), minlength=256)
        return {int(value): int(bins[value]) for value in np.flatnonzero(bins)}
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _misfit(look: Look) -> Fault | None:
    """A fault where image and label have different sizes, turned or not."""
    if look.size == look.label_size or look.tagged.says is not None:
        return None
    return Fault(
        look.image,
        f"has {look.size[0]} x {look.size[1]} pixels and its label {look.label_size[0]} x "
        f"{look.label_size[1]}; expected one size",
    )
