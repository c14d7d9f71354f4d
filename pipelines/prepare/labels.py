"""From raw labels to class ids, as a data card says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from pipelines.prepare import masks
from pipelines.prepare.arrays import read_array
from pipelines.prepare.faults import Unusable, few_enough
from pipelines.prepare.hints import unknown_ids
from pipelines.prepare.labelme import drawn, read_labelme
from pipelines.prepare.masks import ClassFiles, Masks, paint
from pipelines.prepare.matlab import read_matrix
from pipelines.prepare.palettes import refuse_other_order
from pipelines.prepare.pascal_context import MATRIX
from pipelines.prepare.raster import read_binary, read_colours, read_index
from pipelines.study.cards import DataCard

_SHOWN = 8
_ROWS = 256

Label = str | Masks | ClassFiles
"""Where a label is: a path below `files/`, or what a file of many has of it."""


def read_label(files: Path, label: Label, card: DataCard) -> np.ndarray:
    """A label as class ids, as it is stored: see `read_tagged`."""
    return read_tagged(files, label, card)[0]


def read_tagged(files: Path, label: Label, card: DataCard) -> tuple[np.ndarray, int]:
    """A label as class ids, and the EXIF orientation of its file.

    Args:
        files: the folder of the raw files, below which paths are.

    Returns:
        (H, W) uint8, ids of classes and the card's ignore index for void, as stored; and 1 to 8.

    Raises:
        Unusable: when the file cannot be read, or holds what no class has.
    """
    spec, limit = card.files.labels, card.files.max_pixels
    if isinstance(label, ClassFiles):
        return _of_class_files(files, label, card)
    if isinstance(label, Masks):
        few_enough(label.size, limit)
        if spec.encoding == "pascal_context":
            raw = paint(label.size, ((int(key), mask) for key, mask in masks.decode(label)))
            return from_index(np.maximum(raw, 0).astype(np.uint16), card), 1
        return _painted(label.size, masks.decode(label), card), 1
    path = files / label
    match spec.encoding:
        case "colour":
            colours, tag, _ = read_colours(path, limit)
            return from_colours(colours, card), tag
        case "index":
            values, tag, palette = read_index(path, limit)
            if palette is not None and spec.palette == "check":
                used = np.flatnonzero(_histogram(values)).tolist()
                refuse_other_order(used, palette, _known(card), card)
            return from_index(values, card), tag
        case "labelme":
            size, shapes = read_labelme(path, limit)
            ids = [(class_of(name, card), shape) for name, shape in shapes]
            return _finished(paint(size, drawn(size, ids), spec.overlap), card), 1
        case "array":
            return from_index(read_array(path, limit), card), 1
        case "matrix":
            assert spec.key is not None  # A card has it with this encoding.
            return from_index(read_matrix(path, spec.key), card), 1
        case "pascal_context":
            return from_index(read_matrix(path, MATRIX), card), 1
    raise AssertionError(f"{spec.encoding}: {label}")  # Its labels are no paths.


def class_of(name: str, card: DataCard) -> int:
    """The class id of what a file calls a class; the card's ignore index for void.

    Raises:
        Unusable: for a name that the card does not know.
    """
    spec = card.files.labels
    chosen = spec.names.get(name, name)
    if chosen in card.classes:
        return card.classes.index(chosen)
    if chosen is None or spec.others == "ignore":
        return card.ignore_index
    raise Unusable(
        f"has the label {name!r}, which is none of the classes; source.labels.names in the card "
        "may give its class, or null for void"
    )


def from_index(raw: np.ndarray, card: DataCard) -> np.ndarray:
    """Class ids (H, W) uint8 of raw ids (H, W) uint8 or uint16.

    Raises:
        Unusable: naming the raw ids that stand for nothing.
    """
    return _looked_up(raw, lambda rows: rows, _known(card), 1 << 16, card, str, "raw ids")


def from_colours(raw: np.ndarray, card: DataCard) -> np.ndarray:
    """Class ids (H, W) uint8 of colours (H, W, 3) uint8.

    Raises:
        Unusable: naming the colours that stand for nothing.
    """

    def code(rows: np.ndarray) -> np.ndarray:
        return rows.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)

    known = {_code(colour): index for index, colour in enumerate(card.palette)}
    known |= {_code(c): card.ignore_index for c in card.files.labels.ignore_colours}
    return _looked_up(raw, code, known, 1 << 24, card, _colour, "colours")


def class_pixels(label: np.ndarray, card: DataCard) -> np.ndarray:
    """Pixels (K,) int64 of each class in class ids (H, W)."""
    return _histogram(label)[: len(card.classes)]


def _known(card: DataCard) -> dict[int, int]:
    """Class ids, or the card's ignore index, by raw id."""
    labels, count = card.files.labels, len(card.classes)
    if labels.mapping is not None:
        known = dict(labels.mapping)
    elif labels.reduce_zero:
        known = {0: card.ignore_index} | {index + 1: index for index in range(count)}
    else:
        known = {index: index for index in range(count)}
    return known | dict.fromkeys(labels.ignore, card.ignore_index)


def _looked_up(
    raw: np.ndarray,
    code: Callable[[np.ndarray], np.ndarray],
    known: dict[int, int],
    codes: int,
    card: DataCard,
    show: Callable[[int], str],
    kind: str,
) -> np.ndarray:
    """Ids by `known` of what `code` makes of some rows, below `codes`: little memory for large."""
    lenient = card.files.labels.others == "ignore"
    table = np.zeros(codes, np.uint16)  # of which the system lends only what is touched
    table[list(known)] = np.array(list(known.values()), np.uint16) + 1
    ids = np.empty(raw.shape[:2], np.uint8)
    unknown: dict[int, int] = {}
    for top in range(0, len(raw), _ROWS):
        rows = code(raw[top : top + _ROWS])
        found = table[rows]
        if not found.all():
            values, counts = np.unique(rows[found == 0], return_counts=True)
            for value, count in zip(values.tolist(), counts.tolist(), strict=True):
                unknown[value] = unknown.get(value, 0) + count
            found[found == 0] = card.ignore_index + 1
        ids[top : top + _ROWS] = found - 1
    if unknown and not lenient:
        chosen = sorted(unknown)
        named = [f"{show(value)} ({unknown[value]} pixels)" for value in chosen[:_SHOWN]]
        more = f" and {len(chosen) - _SHOWN} more" if len(chosen) > _SHOWN else ""
        raise Unusable(
            f"holds {kind} that the card does not know: {', '.join(named)}{more}; see source.labels"
            f"{unknown_ids(values, len(card.classes)) if kind == 'raw ids' else ''}"
        )
    return ids


def _of_class_files(files: Path, label: ClassFiles, card: DataCard) -> tuple[np.ndarray, int]:
    read = []
    for name, path in label.parts:
        try:
            values, tag, _ = read_binary(files / path, card.files.max_pixels)
        except Unusable as reason:
            raise Unusable(f"{path} {reason}") from reason
        read.append((name, values, tag))
    sizes, tags = {values.shape for _, values, _ in read}, {tag for *_, tag in read}
    if len(sizes) > 1 or len(tags) > 1:
        raise Unusable("and the masks of its other classes have different sizes or orientations")
    named = sorted(((n, v) for n, v, _ in read), key=lambda part: class_of(part[0], card))
    return _painted(sizes.pop(), named, card), tags.pop()


def _painted(
    size: tuple[int, ...], named: Iterable[tuple[int | str, np.ndarray]], card: DataCard
) -> np.ndarray:
    parts = ((class_of(str(name), card), mask) for name, mask in named)
    return _finished(paint((size[0], size[1]), parts, card.files.labels.overlap), card)


def _finished(ids: np.ndarray, card: DataCard) -> np.ndarray:
    background = card.files.labels.background
    ids[ids == masks.NOTHING] = (
        card.ignore_index if background is None else card.classes.index(background)
    )
    ids[ids == masks.DISPUTED] = card.ignore_index
    return ids.astype(np.uint8)


def _histogram(values: np.ndarray) -> np.ndarray:
    """How often (256,) each of values (H, W) uint8 occurs."""
    counts = np.zeros(256, np.int64)
    for top in range(0, len(values), _ROWS):
        counts += np.bincount(values[top : top + _ROWS].ravel(), minlength=256)
    return counts


def _code(colour: list[int]) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _colour(code: int) -> str:
    return str([code >> 16, code >> 8 & 255, code & 255])
