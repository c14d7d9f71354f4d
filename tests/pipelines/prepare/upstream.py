"""Miniatures of published data sets: their folders, names and label encodings, invented pixels.

Each function writes below a folder what the archives of the data set hold when unpacked, and
returns the class ids that prepare has to find, by split and stem.
"""

from __future__ import annotations

import json
from pathlib import Path
from zlib import crc32

import numpy as np
import scipy.io
from PIL import Image
from pycocotools import mask as coco

Truth = dict[tuple[str, str], np.ndarray]
VOID = 255


def ade20k(folder: Path) -> Truth:
    """`ADEChallengeData2016/`: JPEG images of unequal sizes, one of them grey, label 0 = other."""
    root, truth = folder / "ADEChallengeData2016", {}
    sizes = [(64, 72), (70, 64), (40, 100)]
    for split, name, count in (("training", "train", 3), ("validation", "val", 2)):
        for index in range(count):
            stem, size = f"ADE_{name}_{index + 1:08d}", sizes[index]
            raw = blocks(index + count, size, 151)
            _save(Image.fromarray(raw), root / f"annotations/{split}/{stem}.png")
            image = Image.fromarray(noise(crc32(stem.encode()), size))
            image = image.convert("L") if (name, index) == ("train", 1) else image
            _save(image, root / f"images/{split}/{stem}.jpg")
            truth[name, stem] = np.where(raw == 0, VOID, raw.astype(int) - 1).astype(np.uint8)
    _write(root / "objectInfo150.txt", "Idx\tRatio\tTrain\tVal\tStuff\tName\n")
    return truth


def cityscapes(folder: Path) -> Truth:
    """`leftImg8bit/` and `gtFine/`, with the label files that are not wanted, and a test split."""
    train_ids = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, **{19 + k: 6 + k for k in range(10)}}
    train_ids |= {31: 16, 32: 17, 33: 18}
    lookup = np.full(256, VOID, np.uint8)
    lookup[list(train_ids)] = list(train_ids.values())
    truth = {}
    scenes = {"train": ["aachen", "bochum"], "val": ["frankfurt"], "test": ["berlin"]}
    for split, cities in scenes.items():
        for city in cities:
            for index in range(2):
                name, size = f"{city}_{index:06d}_000019", (64, 128)
                ids = blocks(index + len(city), size, 34)
                if split == "test":  # not public: all of it is "out of roi"
                    ids[:] = 3
                image = folder / f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png"
                _save(Image.fromarray(noise(index + len(city), size)), image)
                fine = folder / f"gtFine/{split}/{city}/{name}_gtFine"
                _save(Image.fromarray(ids), Path(f"{fine}_labelIds.png"))
                _save(
                    Image.fromarray(ids.astype(np.uint16) * 1000), Path(f"{fine}_instanceIds.png")
                )
                _save(Image.fromarray(noise(0, size)).convert("RGBA"), Path(f"{fine}_color.png"))
                _write(Path(f"{fine}_polygons.json"), "{}")
                if split != "test":
                    truth[split, f"{name}_leftImg8bit"] = lookup[ids]
    return truth


PASCAL_IDS = [2, 9, 259, 397, 458, 1, 459, 0]
"""Raw ids of the miniature: five that count, two of the other 400, and no label."""


def pascal_context(folder: Path) -> Truth:
    """`VOCdevkit/VOC2010/`, and the labels in both publications below `json/` and `mat/`."""
    classes = {2: 0, 9: 1, 259: 34, 397: 49, 458: 58}
    lookup = np.full(460, VOID, np.uint8)
    lookup[list(classes)] = list(classes.values())
    voc, truth = folder / "VOCdevkit/VOC2010", {}
    images, masks = [], []
    names = {"train": ["2008_000002", "2008_000003", "2008_000007"], "val": ["2008_000008"]}
    for split, stems in names.items():
        _write(voc / f"ImageSets/Main/{split}.txt", "".join(f"{stem}\n" for stem in stems))
        for index, stem in enumerate(stems):
            size = (60, 50 + 10 * index)
            raw = np.array(PASCAL_IDS, np.uint16)[blocks(index, size, len(PASCAL_IDS))]
            _save(
                Image.fromarray(noise(crc32(stem.encode()), size)), voc / f"JPEGImages/{stem}.jpg"
            )
            mat = folder / f"mat/trainval/{stem}.mat"
            mat.parent.mkdir(parents=True, exist_ok=True)
            scipy.io.savemat(mat, {"LabelMap": raw}, do_compression=True)
            number = int(stem.replace("_", ""))
            images.append(
                {
                    "file_name": f"{stem}.jpg",
                    "image_id": number,
                    "phase": split,
                    "height": size[0],
                    "width": size[1],
                    "date_captured": "31-Oct-2007",
                }
            )
            # The JSON has the masks of the 59 classes only.
            for category in set(np.unique(raw).tolist()) & set(classes):
                masks.append(annotation(len(masks), number, category, raw == category))
            truth[split, stem] = lookup[raw]
    _save(Image.fromarray(noise(9, (30, 30))), voc / "JPEGImages/2007_000027.jpg")
    categories = [{"category_id": number, "name": "x", "onlysemantic": 0} for number in classes]
    content = {"info": {}, "images": images, "annos_segmentation": masks, "annos_occlusion": []}
    content |= {"annos_boundary": [], "categories": categories, "parts": []}
    _write(folder / "json/trainval_merged.json", json.dumps(content))
    _write(folder / "mat/labels.txt", "1: accordion\n2: aeroplane\n")
    return truth


def annotation(number: int, image: int, category: int, mask: np.ndarray) -> dict:
    """An entry of `annos_segmentation`."""
    code = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": {"size": code["size"], "counts": code["counts"].decode()},
        "area": 1.5,
        "iscrowd": 0,
        "parts": [],
    }


def blocks(seed: int, size: tuple[int, int], count: int) -> np.ndarray:
    """(H, W) uint8 of blocks of 4 pixels with ids below `count`, most of which occur."""
    rng = np.random.default_rng([seed, *size])
    coarse = rng.integers(0, count, (-(-size[0] // 4), -(-size[1] // 4)))
    return np.kron(coarse, np.ones((4, 4), int))[: size[0], : size[1]].astype(np.uint8)


def noise(seed: int, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
