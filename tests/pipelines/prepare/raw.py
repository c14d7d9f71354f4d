"""Small raw data sets, written below the working directory, and cards that describe them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.base.artifacts import sha256_folder, write_receipt
from pipelines.study import Dataset
from pipelines.study.cards import DataCard

CLASSES = ("ground", "tree", "rare")
PALETTE = ([10, 10, 10], [0, 200, 0], [250, 0, 0])


def card(
    splits: dict[str, dict] | None = None,
    labels: dict[str, Any] | None = None,
    classes: tuple[str, ...] = CLASSES,
    **source: Any,
) -> DataCard:
    """A card of three classes; by default `images/<split>` and `labels/<split>` for train, test."""
    splits = splits or {
        split: {"images": f"images/{split}", "labels": f"labels/{split}"}
        for split in ("train", "test")
    }
    palette = [list(PALETTE[index]) if index < 3 else [index] * 3 for index in range(len(classes))]
    parts = {"mine": {"kind": "folder", "path": "mine"}}
    source = {"kind": "files", "parts": parts, "splits": splits, "labels": labels or {}} | source
    about = {"title": "Mine", "licence": "none", "citation": "none"}
    return DataCard.model_validate(
        about | {"classes": list(classes), "palette": palette, "source": source}
    )


def fetched(card: DataCard, name: str = "mine") -> Dataset:
    """The data set of `card`, as if fetch had left what lies in its folder of raw files."""
    dataset = Dataset(name, card)
    dataset.raw.mkdir(parents=True, exist_ok=True)
    vouch(dataset)
    return dataset


def vouch(dataset: Dataset) -> None:
    """Write the receipt that fetch would."""
    write_receipt(
        dataset.fetched.parent,
        stage="fetch",
        subject=dataset.name,
        parameters=dataset.parameters_hash("fetch"),
        inputs=[],
        digests={dataset.raw.name: sha256_folder(dataset.raw)},
    )


def write(dataset: Dataset, files: dict[str, np.ndarray | Image.Image | bytes | str]) -> None:
    """Write raw files; arrays and pictures in the format that their suffix names."""
    for name, content in files.items():
        path = dataset.raw / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, np.ndarray):
            content = Image.fromarray(content)
        if isinstance(content, Image.Image):
            content.save(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    vouch(dataset)


def picture(seed: int = 0, size: tuple[int, int] = (8, 10)) -> np.ndarray:
    """(H, W, 3) uint8 of noise."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)


def truth(seed: int = 0, size: tuple[int, int] = (8, 10), classes: int = 3) -> np.ndarray:
    """(H, W) uint8 of class ids, all of them there."""
    ids = np.arange(size[0] * size[1]) % classes
    return np.random.default_rng(seed).permutation(ids).reshape(size).astype(np.uint8)


def two_splits(dataset: Dataset, count: int = 3) -> None:
    """Fill the default splits of `card` with `count` pairs each."""
    for split in ("train", "test"):
        for index in range(count):
            seed = 10 * index + len(split)
            write(dataset, {f"images/{split}/{index}.png": picture(seed)})
            write(dataset, {f"labels/{split}/{index}.png": truth(seed)})


def prepared_label(dataset: Dataset, split: str, stem: str) -> np.ndarray:
    with Image.open(dataset.prepared / f"labels/{split}/{stem}.png") as label:
        assert label.mode == "P"
        return np.asarray(label)


def below(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
