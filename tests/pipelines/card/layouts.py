"""Small data sets in the layouts that people have, written below a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

SIZE = (24, 32)
"""(H, W)."""
COLOURS = np.array([[0, 0, 0], [0, 128, 0], [200, 30, 30], [255, 255, 255]], np.uint8)


def photo(seed: int) -> Image.Image:
    """Noise, so that no two are alike."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8))


def ids(seed: int, classes: int = 3) -> np.ndarray:
    """(H, W) uint8: blocks, all classes in each."""
    rng = np.random.default_rng(seed)
    blocks = rng.permutation(np.arange(12) % classes).reshape(3, 4)
    return np.kron(blocks, np.ones((8, 8))).astype(np.uint8)


def save(path: Path, content: Image.Image | np.ndarray | dict | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, content)
    elif isinstance(content, dict):
        path.write_text(json.dumps(content))
    elif isinstance(content, str):
        path.write_text(content)
    else:
        picture = content if isinstance(content, Image.Image) else Image.fromarray(content)
        picture.save(path)


def indexed(values: np.ndarray, palette: np.ndarray = COLOURS) -> Image.Image:
    picture = Image.fromarray(values, mode="P")
    whole = np.zeros((256, 3), np.uint8)
    whole[: len(palette)] = palette
    picture.putpalette(whole.ravel().tolist())
    return picture


def photos(folder: Path, names: list[str]) -> None:
    for seed, name in enumerate(names):
        save(folder / name, photo(seed))


def names(count: int, form: str = "{:03d}.jpg") -> list[str]:
    return [form.format(number) for number in range(1, count + 1)]


def coco(files: list[str], folder: str = "") -> dict:
    """A COCO file of a square and a triangle on each image."""
    height, width = SIZE
    categories = [{"id": 3, "name": "cat"}, {"id": 7, "name": "big dog"}, {"id": 9, "name": "none"}]
    images, annotations = [], []
    for number, name in enumerate(files, start=1):
        images.append({"id": number, "file_name": folder + name, "height": height, "width": width})
        shapes = ([2, 2, 12, 2, 12, 12, 2, 12], [14, 14, 30, 14, 14, 22])
        for category, polygon in zip((3, 7), shapes, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category,
                    "segmentation": [polygon],
                    "iscrowd": 0,
                }
            )
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def labelme(image: str) -> dict:
    shapes = [
        {"label": "cat", "points": [[2, 2], [12, 2], [12, 12]], "shape_type": "polygon"},
        {"label": "dog", "points": [[14, 14], [30, 22]], "shape_type": "rectangle"},
        {"label": "__ignore__", "points": [[0, 20], [5, 23]], "shape_type": "rectangle"},
    ]
    size = {"imageHeight": SIZE[0], "imageWidth": SIZE[1]}
    return {"version": "5", "flags": {}, "shapes": shapes, "imagePath": image, **size}


def matlab(path: Path, variables: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, variables)
