"""Indexed masks: whether the indices are what the card takes them for.

A paint program numbers colours as it meets them, and GIF files number even greys. Then the palette
of the file says what a pixel means, and its index is chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipelines.prepare.faults import Unusable
from pipelines.study.cards import DataCard


def refuse_other_order(
    used: Sequence[int], palette: np.ndarray, known: Mapping[int, int], card: DataCard
) -> None:
    """Refuse indices whose own palette says that they are other classes.

    The palette is taken for what the pixels mean where all colours that occur are those of classes,
    or where they are greys of which some are raw ids. A ramp of greys, to be looked at, is none.

    Args:
        used: the indices that occur.
        palette: colours (n, 3) uint8 by index.
        known: class ids, or the card's ignore index, by raw id.

    Raises:
        Unusable: naming an index, its colour and the remedy.
    """
    colours = {index: tuple(palette[index].tolist()) for index in used if index < len(palette)}
    if len(set(colours.values())) < len(colours):
        return  # such as a palette that is black throughout
    _compare_classes(colours, known, card)
    if all(red == green == blue for red, green, blue in colours.values()):
        _compare_greys({index: colour[0] for index, colour in colours.items()}, known, card)


def _compare_classes(
    colours: Mapping[int, tuple[int, ...]], known: Mapping[int, int], card: DataCard
) -> None:
    classes = {tuple(colour): index for index, colour in enumerate(card.palette)}
    classed = {i: colour for i, colour in colours.items() if known.get(i) != card.ignore_index}
    if not all(colour in classes for colour in classed.values()):
        return
    for index, colour in classed.items():
        if known.get(index) != classes[colour]:
            raise Unusable(
                f"has index {index} with the colour {list(colour)} of class "
                f"{card.classes[classes[colour]]!r}: its palette has the colours of the classes in "
                "another order; expected source.labels.encoding: colour in the card, or palette: "
                "ignore if the indices are right"
            )


def _compare_greys(greys: Mapping[int, int], known: Mapping[int, int], card: DataCard) -> None:
    all_are_ids = all(grey in known for grey in greys.values())
    some_is_itself = any(index == grey > 0 for index, grey in greys.items())
    for index, grey in greys.items():
        is_class = known.get(grey, card.ignore_index) != card.ignore_index
        if known.get(index) != known.get(grey) and (all_are_ids or some_is_itself or is_class):
            raise Unusable(
                f"has index {index} with the grey {grey}: its palette has raw ids in another "
                "order; expected a grey image, or source.labels.palette: ignore in the card if the "
                "indices are right"
            )
