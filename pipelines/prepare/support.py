"""Whether the data of a card can support the numbers that are wanted of it.

What cannot be is said before anything is trained: a split without a labelled pixel, an image that
is in two splits, a class that no split holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np

from pipelines.prepare.account import SplitAccount
from pipelines.prepare.faults import Fault
from pipelines.prepare.hints import BINARY
from pipelines.study.cards import DataCard
from pipelines.study.digits import Split


def unsupported(card: DataCard, splits: Mapping[Split, SplitAccount]) -> list[Fault]:
    """What keeps data in files from being used, whatever `faulty` says."""
    faults = [*_without_labels(splits)]
    if "shared_images" not in card.files.allow:
        faults += _shared(splits)
    if "absent_classes" not in card.files.allow and not faults:
        faults += _absent(card, splits)
    return faults


def shared_images(splits: Mapping[Split, SplitAccount]) -> list[tuple[str, str]]:
    """Images with the same pixels in two splits, as `<split>/<stem>` and `<split>/<stem>`."""
    pairs = []
    for one, other in combinations(splits, 2):
        stems = splits[one].stems
        pairs += [
            (f"{one}/{stems[pixels]}", f"{other}/{stem}")
            for pixels, stem in splits[other].stems.items()
            if pixels in stems
        ]
    return pairs


def _without_labels(splits: Mapping[Split, SplitAccount]) -> Iterator[Fault]:
    for split, account in splits.items():
        if account.count and not account.pixels.any():
            yield Fault(
                split,
                f"has no labelled pixel in {account.count} images: void alone has no score. Where "
                "its labels are withheld, leave this split out of the card",
                fatal=True,
            )


def _shared(splits: Mapping[Split, SplitAccount]) -> Iterator[Fault]:
    for one, other in shared_images(splits):
        yield Fault(
            other,
            f"has the pixels of {one}: what is trained on must not be measured on; take it out of "
            "one split (or say allow: [shared_images] under source)",
            fatal=True,
        )


def _absent(card: DataCard, splits: Mapping[Split, SplitAccount]) -> Iterator[Fault]:
    pixels = sum((account.pixels for account in splits.values()), np.zeros(1, np.int64))
    void = sum(account.void for account in splits.values())
    absent = [name for name, count in zip(card.classes, pixels, strict=True) if not count]
    if absent:
        several = len(absent) > 1
        yield Fault(
            f"class{'es' * several} {', '.join(map(repr, absent))}",
            f"{'have' if several else 'has'} no pixel in {', '.join(splits)}"
            f"{_reason(card, void, only_first=not pixels[1:].any())}; take "
            f"{'them' if several else 'it'} out of the card's classes (or say "
            "allow: [absent_classes] under source)",
            fatal=True,
        )


def _reason(card: DataCard, void: int, *, only_first: bool) -> str:
    """What in the card may have emptied classes, all but the first where `only_first`."""
    labels = card.files.labels
    if not void or labels.encoding == "colour":
        return ""
    if labels.reduce_zero:
        return f": reduce_zero made {void} pixels of raw id 0 void, which is wrong for ids from 0"
    if only_first and (255 in labels.ignore or labels.others == "ignore"):
        return f", and {void} pixels are void: {BINARY}"
    return f", and {void} pixels are void"
