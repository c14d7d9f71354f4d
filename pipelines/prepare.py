"""Turn raw data into the one layout that training and evaluation read.

`data/prepared/<dataset>/images/<split>/<stem>.png` (RGB) and `labels/<split>/<stem>.png` (indexed,
class ids, the card's ignore index for void), with `info.json`: classes, image counts, each class's
share of the labelled training pixels, head, mid and tail classes, and a digest of each split.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from pipelines import digits
from pipelines.artifacts import Stopwatch, canonical_json, staged, write_receipt
from pipelines.cards import DataCard
from pipelines.cli import chosen_datasets, guarded, stage_parser
from pipelines.errors import PipelineError
from pipelines.metrics import class_groups
from pipelines.study import Dataset

Pair = tuple[np.ndarray, np.ndarray]
"""An image (H, W, 3) uint8 and its label (H, W) uint8."""


def prepare(dataset: Dataset) -> None:
    """Write images, labels, `info.json` and a receipt.

    Raises:
        PipelineError: when fetch has not run, or a split differs from the digest in the card.
    """
    watch, card = Stopwatch(), dataset.card
    if not dataset.fetched.is_file():
        raise PipelineError(
            f"{dataset.fetched}: not found; run python -m pipelines.fetch --dataset {dataset.name}"
        )
    with staged(dataset.prepared) as scratch:
        counts, digests = {}, {}
        pixels = np.zeros(len(card.classes), dtype=np.int64)
        for split in ("train", "val", "test"):
            pairs = list(_scenes(dataset, split))
            _write_split(scratch, split, pairs, card)
            counts[split], digests[split] = len(pairs), digits.digest(pairs)
            if split == "train":
                for _, label in pairs:
                    pixels += np.bincount(label.ravel(), minlength=256)[: len(card.classes)]
        _check_digests(dataset, digests)
        info = _describe(card, counts, digests, pixels)
        (scratch / "info.json").write_text(canonical_json(info), encoding="utf-8")
        write_receipt(
            scratch,
            stage="prepare",
            subject=dataset.name,
            parameters=dataset.parameters_hash("prepare"),
            inputs=[dataset.fetched],
            digests=digests,
        )
        watch.write(scratch)


def _scenes(dataset: Dataset, split: str) -> Iterator[Pair]:
    spec = dataset.card.source.scenes
    glyphs, classes = digits.read_glyphs(dataset.raw / "glyphs.npy")
    chosen = digits.split_glyphs(classes, spec.seed)[split]
    for index in tqdm(range(spec.scenes[split]), desc=f"{dataset.name} {split}", disable=None):
        yield digits.render_scene(glyphs, classes, chosen, spec, split, index)


def _write_split(scratch: Path, split: str, pairs: list[Pair], card: DataCard) -> None:
    palette = [0] * 768
    for index, colour in enumerate(card.palette):
        palette[3 * index : 3 * index + 3] = colour
    images, labels = scratch / "images" / split, scratch / "labels" / split
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for index, (image, label) in enumerate(pairs):
        Image.fromarray(image).save(images / f"{index:05d}.png")
        indexed = Image.fromarray(label, mode="P")
        indexed.putpalette(palette)
        indexed.save(labels / f"{index:05d}.png")


def _check_digests(dataset: Dataset, digests: dict[str, str]) -> None:
    for split, expected in dataset.card.digests.items():
        if digests[split] != expected:
            raise PipelineError(
                f"{dataset.card_file}: digests.{split}: expected {expected}, the prepared images "
                f"and labels have {digests[split]}; they are not the data of the published results"
            )


def _describe(
    card: DataCard, counts: dict[str, int], digests: dict[str, str], pixels: np.ndarray
) -> dict[str, Any]:
    share = dict(zip(card.classes, (pixels / pixels.sum()).tolist(), strict=True))
    return {
        "classes": card.classes,
        "palette": card.palette,
        "ignore_index": card.ignore_index,
        "counts": counts,
        "digests": digests,
        "pixel_share": share,
        "groups": class_groups(share),
    }


def main(argv: list[str] | None = None) -> int:
    args = stage_parser(__doc__, datasets=True).parse_args(argv)

    def command() -> None:
        for dataset in chosen_datasets(args):
            prepare(dataset)
            print(f"prepared {dataset.name} in {dataset.prepared}")

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
