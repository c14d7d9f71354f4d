"""Draw the scenes of the digits data set and write them in the canonical layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipelines.base.pixels import digest as digest_of
from pipelines.fetch import glyphs
from pipelines.prepare import digits
from pipelines.prepare.account import SplitAccount
from pipelines.prepare.labels import class_pixels
from pipelines.prepare.writer import write_pair
from pipelines.study import Dataset
from pipelines.study.digits import Split


def write_scenes(dataset: Dataset, folder: Path) -> dict[Split, SplitAccount]:
    """Write `folder/images/` and `folder/labels/`, and account for each split."""
    spec = dataset.card.scenes
    images, classes = glyphs.read_glyphs(dataset.raw / "glyphs.npy", dataset.again("fetch"))
    chosen = digits.split_glyphs(classes, spec.seed)
    accounts: dict[Split, SplitAccount] = {}
    for split in dataset.card.splits:
        pixels, having = np.zeros((2, len(dataset.card.classes)), dtype=np.int64)

        def scenes(
            split: Split = split, pixels: np.ndarray = pixels, having: np.ndarray = having
        ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
            """Each scene, once it is written and counted."""
            count = range(spec.scenes[split])
            for index in tqdm(count, desc=f"{dataset.name} {split}", disable=None):
                image, label = digits.render_scene(
                    images, classes, chosen[split], spec, split, index
                )
                write_pair(image, label, dataset.card, folder, split, f"{index:05d}")
                found = class_pixels(label, dataset.card)
                pixels += found
                having += found > 0
                yield image, label

        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        digest = digest_of(scenes())
        accounts[split] = SplitAccount(digest, spec.scenes[split], pixels, having)
    return accounts
