"""Which values of labels are those of classes: colours or ids, and what is only a blurred edge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from pipelines.base.errors import PipelineError
from pipelines.card.look import Look

_MOST_CLASSES = 255
_FEW = 32
"""So many values are taken for classes without a doubt."""
EDGES = 0.1
"""The largest share of pixels that blurred edges may have."""
_INSIDE = 0.2
"""The least share of a class's pixels that have three neighbours of it."""

_SEVERAL = 5
"""Images, with fewer of which nothing follows from a class that only one holds."""
_SHOWN = 3


def common_palette(looks: Sequence[Look]) -> dict[int, int] | None:
    """The colours of indices where all indexed pictures agree; None where they do not."""
    colours: dict[int, int] = {}
    for look in looks:
        for index, colour in (look.palette or {}).items():
            if colours.setdefault(index, colour) != colour:
                return None
    return colours


def as_colours(look: Look, numbers: Mapping[int, int] | None = None) -> dict[int, int]:
    """Pixels by the colour of a label that was read as ids: that of its palette, or grey."""
    counts = Counter[int]()
    for value, pixels in (look.pixels if numbers is None else numbers).items():
        if look.palette is not None:
            counts[look.palette[value]] += pixels
        elif value < 256:
            counts[value << 16 | value << 8 | value] += pixels
        else:
            raise PipelineError(
                f"{look.label}: has the id {value}, and other labels are colours; expected one "
                "kind of labels"
            )
    return counts


def without_edges(
    counts: Counter[int], looks: Sequence[Look], coloured: bool
) -> tuple[list[int], int]:
    """The values of classes, in order, and how many others there are: blurred edges.

    A mask that was scaled or smoothed has many values between those of its classes, with few
    pixels each, and hardly ever one beside and below another.
    """
    total = sum(look.label_size[0] * look.label_size[1] for look in looks)
    whole = all(look.distinct == len(look.pixels) for look in looks)
    if len(counts) <= _FEW and whole:
        return sorted(counts), 0
    inside = Counter[int]()
    for look in looks:
        own = as_colours(look, look.inside) if coloured and not look.coloured else look.inside
        inside.update(own)
    held = [value for value in counts if inside[value] >= _INSIDE * counts[value]]
    rest = 1 - sum(counts[value] for value in held) / total
    thin = len(counts) - len(held)
    if rest <= EDGES and 2 <= len(held) <= thin:
        return sorted(held), thin
    if len(counts) <= _MOST_CLASSES and whole and thin <= len(held):
        return sorted(counts), 0
    kind = "colours" if coloured else "values"
    fullest = max(looks, key=lambda look: look.distinct)
    raise PipelineError(
        f"{fullest.label}: the masks hold {len(counts)}{'' if whole else ' or more'} {kind} "
        f"({fullest.distinct} in this one), and {rest:.0%} of their pixels are in no area of one "
        f"value; expected areas of one value each, {_MOST_CLASSES} classes at most. Are these "
        "photographs (IMAGES and MASKS the other way round), instance ids, or masks that were "
        "scaled or saved as JPEG?"
    )


def seldom(classes: Sequence[str], holds: np.ndarray, labels: Sequence[str]) -> list[str]:
    """A line on classes that a single image of several holds: a slip of the pen, or instances.

    Args:
        classes: K names.
        holds: (N, K) bool, whether a label holds a class.
        labels: N names of labels.
    """
    once = np.flatnonzero(holds.sum(axis=0) == 1).tolist()
    if not once or len(labels) < _SEVERAL:
        return []
    shown = [f"{classes[i]} ({labels[int(np.argmax(holds[:, i]))]})" for i in once[:_SHOWN]]
    more = f" and {len(once) - len(shown)} more" if len(once) > len(shown) else ""
    told = f"in a single image of {len(labels)}: {', '.join(shown)}{more}; "
    if len(once) > len(classes) / 2:
        return [told + "are the labels ids of instances, and not of classes?"]
    return [
        told + "if by mistake, take it out of classes, palette and mapping, and write others: "
        "ignore under labels, which makes it void"
    ]
