"""Head, mid and tail: the classes of a data set by how often training shows them."""

from __future__ import annotations

from collections.abc import Mapping

GROUPS = ("head", "mid", "tail")


def class_groups(pixel_share: Mapping[str, float]) -> dict[str, list[str]]:
    """Head, mid and tail classes: thirds of the classes by their share of training pixels.

    Where the number of classes is no multiple of three, head and then mid have one more. Ties go
    by the order of the classes.
    """
    ordered = sorted(pixel_share, key=lambda name: -pixel_share[name])
    size, more = divmod(len(ordered), len(GROUPS))
    groups, start = {}, 0
    for index, group in enumerate(GROUPS):
        end = start + size + (index < more)
        groups[group], start = ordered[start:end], end
    return groups
