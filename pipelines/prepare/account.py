"""What prepare tells of the data it wrote: `info.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.base.artifacts import sha256_json
from pipelines.base.class_groups import class_groups
from pipelines.prepare.faults import Fault
from pipelines.prepare.writer import Written
from pipelines.study.cards import DataCard


@dataclass
class SplitAccount:
    """A split as it was written."""

    digest: str
    count: int
    pixels: np.ndarray
    """Of each class, (K,) int64."""
    images: np.ndarray
    """That hold each class, (K,) int64."""
    suffixes: Counter[str] = field(default_factory=Counter)
    """Images by the suffix of their files."""
    sizes: set[tuple[int, int]] = field(default_factory=set)
    skipped: list[Fault] = field(default_factory=list)


def of_written(written: list[Written], faults: list[Fault], classes: int) -> SplitAccount:
    """The account of a split of files.

    Its digest is the sha256 of the JSON list of (stem, `writer.digest` of the pair) in order of
    the stems: the pairs are digested in parallel.
    """
    written = sorted(written, key=lambda one: one.stem)
    pixels = np.array([one.pixels for one in written], dtype=np.int64).reshape(-1, classes)
    return SplitAccount(
        digest=sha256_json([[one.stem, one.digest] for one in written]),
        count=len(written),
        pixels=pixels.sum(axis=0),
        images=(pixels > 0).sum(axis=0),
        suffixes=Counter(one.suffix for one in written),
        sizes={one.size for one in written},
        skipped=faults,
    )


def describe(card: DataCard, splits: Mapping[str, SplitAccount]) -> dict[str, Any]:
    """The content of `info.json`.

    Where all images are PNG, all of a split have one size, and none was left out, it does not
    speak of `suffixes`, `unequal_sizes` and `skipped`.
    """
    train = splits["train"]
    share = dict(zip(card.classes, (train.pixels / train.pixels.sum()).tolist(), strict=True))
    info = {
        "classes": card.classes,
        "palette": card.palette,
        "ignore_index": card.ignore_index,
        "counts": {split: account.count for split, account in splits.items()},
        "digests": {split: account.digest for split, account in splits.items()},
        "pixel_share": share,
        "image_count": dict(zip(card.classes, train.images.tolist(), strict=True)),
        "labelled_pixels": int(train.pixels.sum()),
        "groups": class_groups(share),
    }
    suffixes = {
        split: dict(account.suffixes)
        for split, account in splits.items()
        if set(account.suffixes) - {".png"}
    }
    unequal = [split for split, account in splits.items() if len(account.sizes) > 1]
    skipped = {
        split: [{"file": fault.file, "reason": fault.reason} for fault in account.skipped]
        for split, account in splits.items()
        if account.skipped
    }
    optional = {"suffixes": suffixes, "unequal_sizes": unequal, "skipped": skipped}
    return info | {key: value for key, value in optional.items() if value}
