"""Crop and base size for images of given sizes, each with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

STRIDE = 32
"""Of the coarsest features of most backbones: sides are multiples of it."""


@dataclass(frozen=True)
class Sizes:
    """`crop_size` and `base_size` of a study's `augmentation`, as they are suggested."""

    crop_size: tuple[int, int]
    """(height, width)."""
    base_size: tuple[int, int] | None
    """(longer, shorter side); None where all images have one size."""
    why_crop: str
    why_base: str


def suggest(sizes: Iterable[tuple[int, int]], longest: int = 512) -> Sizes:
    """What fits images of these sizes.

    Args:
        sizes: (width, height) of each.
        longest: side of a crop at most; what a device trains in reasonable time.
    """
    counts = Counter(sizes)
    base = None
    if len(counts) == 1:
        ((width, height),) = counts
        what, why_base = f"all images have {width} x {height} pixels", "all images have one size"
    else:
        every = np.array(list(counts.elements()))
        longer, shorter = np.median(every.max(axis=1)), np.median(every.min(axis=1))
        factor = min(1.0, 2 * longest / longer)
        base = (max(1, round(longer * factor)), max(1, round(shorter * factor)))
        upright = np.median(every[:, 1] - every[:, 0]) > 0
        width, height = base[::-1] if upright else base
        # Crops of all images: no side longer than the shorter one.
        width = height = min(width, height)
        least, most = every.min(axis=0).tolist(), every.max(axis=0).tolist()
        what = f"images are fitted into {base[0]} x {base[1]}"
        why_base = (
            f"{len(counts)} sizes, from {least[0]} x {least[1]} to {most[0]} x {most[1]}: the "
            "median of the longer and of the shorter sides"
            + (f", made {factor:.2f} times as large" if factor < 1 else "")
        )
    crop = (_side(height, longest), _side(width, longest))
    kind = "the whole of them" if crop == (height, width) else "multiples of 32 that fit in"
    if max(height, width) > longest:
        kind += f", {longest} at most to spare memory"
    return Sizes(crop, base, f"{what}: {kind}", why_base)


def _side(side: int, longest: int) -> int:
    """The largest multiple of the stride that fits; a side that is smaller stays as it is."""
    most = min(side, longest)
    return most // STRIDE * STRIDE if most >= STRIDE else most
