"""From raw labels to class ids, as a data card says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipelines.prepare.faults import Unusable
from pipelines.prepare.matlab import read_matrix
from pipelines.prepare.pascal_context import MATRIX, Masks, from_masks
from pipelines.prepare.raster import read_colours, read_index
from pipelines.study.cards import DataCard

_SHOWN = 8


def read_label(files: Path, label: str | Masks, card: DataCard) -> np.ndarray:
    """A label as class ids.

    Args:
        files: the folder of the raw files, below which `label` is a path, unless it is the label.

    Returns:
        (H, W) uint8: ids of classes, and the card's ignore index for void.

    Raises:
        Unusable: when the file cannot be read, or holds what no class has.
    """
    if isinstance(label, Masks):
        return from_index(from_masks(label), card)
    spec, path = card.files.labels, files / label
    match spec.encoding:
        case "colour":
            return from_colours(read_colours(path), card)
        case "pascal_context":
            raw = read_matrix(path, MATRIX)
        case "matrix":
            assert spec.key is not None  # A card has it with this encoding.
            raw = read_matrix(path, spec.key)
        case "index":
            raw = read_index(path)
    return from_index(raw, card)


def from_index(raw: np.ndarray, card: DataCard) -> np.ndarray:
    """Class ids (H, W) uint8 of raw ids (H, W) uint8 or uint16.

    Raises:
        Unusable: naming the raw ids that stand for nothing.
    """
    labels, count = card.files.labels, len(card.classes)
    if labels.mapping is not None:
        known = dict(labels.mapping)
    elif labels.reduce_zero:
        known = {0: card.ignore_index} | {index + 1: index for index in range(count)}
    else:
        known = {index: index for index in range(count)}
    known |= dict.fromkeys(labels.ignore, card.ignore_index)
    return _looked_up(raw, known, card, str, "raw ids")


def from_colours(raw: np.ndarray, card: DataCard) -> np.ndarray:
    """Class ids (H, W) uint8 of colours (H, W, 3) uint8.

    Raises:
        Unusable: naming the colours that stand for nothing.
    """
    code = raw.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)
    known = {_code(colour): index for index, colour in enumerate(card.palette)}
    known |= {_code(c): card.ignore_index for c in card.files.labels.ignore_colours}
    return _looked_up(code, known, card, _colour, "colours")


def _looked_up(
    raw: np.ndarray,
    known: dict[int, int],
    card: DataCard,
    show: Callable[[int], str],
    kind: str,
) -> np.ndarray:
    values, counts = np.unique(raw, return_counts=True)
    found = zip(values.tolist(), counts.tolist(), strict=True)
    unknown = [(value, count) for value, count in found if value not in known]
    if unknown and card.files.labels.others == "error":
        named = [f"{show(value)} ({count} pixels)" for value, count in unknown[:_SHOWN]]
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        raise Unusable(
            f"holds {kind} that the card does not know: {', '.join(named)}{more}; see source.labels"
        )
    ids = [known.get(value, card.ignore_index) for value in values.tolist()]
    return np.array(ids, dtype=np.uint8)[np.searchsorted(values, raw)]


def _code(colour: list[int]) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _colour(code: int) -> str:
    return str([code >> 16, code >> 8 & 255, code & 255])
