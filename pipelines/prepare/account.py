"""What prepare tells of the data it wrote: `info.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.base.class_groups import class_groups
from pipelines.base.pixels import digest_of_files
from pipelines.prepare.faults import Fault
from pipelines.prepare.orientation import Rule
from pipelines.prepare.writer import Written
from pipelines.study.cards import DataCard
from pipelines.study.digits import Split


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
    left_out: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Files of other suffixes that were not looked at, by folder and suffix."""
    tags: tuple[int, int] = (0, 0)
    """Images and labels with an EXIF orientation."""
    void: int = 0
    """Pixels of no class."""
    stems: dict[str, str] = field(default_factory=dict)
    """Names of the images by the digest of their pixels."""


def of_written(
    written: list[Written],
    faults: list[Fault],
    classes: int,
    left_out: Mapping[str, Mapping[str, int]],
) -> SplitAccount:
    """The account of a split of files."""
    written = sorted(written, key=lambda one: one.stem)
    pixels = np.array([one.pixels for one in written], dtype=np.int64).reshape(-1, classes)
    return SplitAccount(
        digest=digest_of_files((one.stem, one.digest) for one in written),
        count=len(written),
        pixels=pixels.sum(axis=0),
        images=(pixels > 0).sum(axis=0),
        suffixes=Counter(one.suffix for one in written),
        sizes={one.size for one in written},
        skipped=faults,
        left_out=left_out,
        tags=(sum(one.tags[0] for one in written), sum(one.tags[1] for one in written)),
        void=sum(one.size[0] * one.size[1] for one in written) - int(pixels.sum()),
        stems={one.image: one.stem for one in written},
    )


def describe(
    card: DataCard,
    splits: Mapping[Split, SplitAccount],
    shared_images: Sequence[tuple[str, str]] = (),
    exif: Rule | None = None,
) -> dict[str, Any]:
    """The content of `info.json`.

    Where all images are PNG, all of a split have one size, none was left out, turned or is in two
    splits, it does not speak of `suffixes`, `unequal_sizes`, `skipped`, `left_out`, `exif` and
    `shared_images`.

    Args:
        exif: what EXIF orientations did.
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
    left_out = {split: account.left_out for split, account in splits.items() if account.left_out}
    tags = {split: account.tags for split, account in splits.items() if any(account.tags)}
    optional: dict[str, Any] = {
        "suffixes": suffixes,
        "unequal_sizes": unequal,
        "skipped": skipped,
        "left_out": left_out,
        "exif": tags
        and {
            "rule": exif,
            "images": {split: images for split, (images, _) in tags.items()},
            "labels": {split: labels for split, (_, labels) in tags.items()},
        },
        "shared_images": [list(pair) for pair in shared_images],
    }
    return info | {key: value for key, value in optional.items() if value}
