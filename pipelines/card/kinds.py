"""What kind of labels lie in a folder: pictures (one a class?), arrays, matrices, COCO, LabelMe."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple, get_args

import ijson
import numpy as np
import scipy.io

from pipelines.base.errors import PipelineError
from pipelines.card.pairing import with_suffix
from pipelines.card.words import is_label, speaks_of_kind, split_in, stem_of
from pipelines.prepare.patterns import SUFFIXES

Kind = Literal["pictures", "array", "matrix", "coco", "labelme", "class_masks"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_OTHERS = {
    ".txt": "texts (boxes or polygons of YOLO?): export them as COCO or as masks",
    ".json": "JSON that is neither LabelMe's nor COCO's: export it as COCO or as masks",
    ".xml": "XML (boxes of VOC, or of LabelMe's old version?): export them as COCO or as masks",
}
_MATRIX = ("seg", "label", "mask", "gt", "groundtruth", "truth", "annot")
_DEPTH = 3
_LOOKED_AT = 10


def kind_of(files: Path, images: Sequence[str], labels: Sequence[str], top: str) -> Kind:
    """The kind of most of the files that may be labels, which lie below `top`.

    Raises:
        PipelineError: when there are none.
    """
    counts: Counter[Kind] = Counter()
    counts["pictures"] = len(with_suffix(labels, SUFFIXES))
    counts["array"] = len(with_suffix(labels, {".npy"}))
    counts["matrix"] = len(with_suffix(labels, {".mat"}))
    texts = with_suffix(labels, {".json"})
    if texts:
        # A few tell: Cityscapes has thousands of another kind beside its masks.
        some = [*texts[:_LOOKED_AT], *(p for p in texts if "coco" in p or "instances" in p)]
        json = next((kind for path in some if (kind := kind_of_json(files / path))), None)
        if json is not None:
            # A COCO file holds the labels of many images.
            counts[json] = len(texts) if json == "labelme" else max(1, *counts.values())
    best, number = max(counts.items(), key=lambda item: (item[1], item[0] == "coco"))
    if not number:
        found = suffixes(labels)
        told = suffixes_told(found)
        hint = next((f"; {_OTHERS[suffix]}" for suffix in _OTHERS if suffix in found), "")
        raise PipelineError(
            f"MASKS: {top}: holds {told}; expected masks (PNG, TIFF, ...), .npy, .mat, LabelMe's "
            f"JSON, or a COCO file{hint}"
        )
    if best == "pictures":
        pictures = with_suffix(labels, SUFFIXES)
        if _by_class(images, pictures, top) or class_suffixes(images, pictures):
            return "class_masks"
    return best


def suffixes(paths: Sequence[str]) -> Counter[str]:
    """How many of these files have which suffix."""
    return Counter(PurePosixPath(path).suffix.lower() or "no suffix" for path in paths)


def suffixes_told(found: Counter[str]) -> str:
    """The most frequent ones, for a message."""
    return ", ".join(f"{count} {suffix}" for suffix, count in found.most_common(4)) or "nothing"


def kind_of_json(path: Path) -> Literal["coco", "labelme"] | None:
    """What the first keys of a JSON file say; None where it is neither."""
    try:
        with path.open("rb") as file:
            depth = 0
            for event, value in ijson.basic_parse(file):
                if event in ("start_map", "start_array"):
                    depth += 1
                elif event in ("end_map", "end_array"):
                    depth -= 1
                elif event == "map_key" and depth == 1:
                    if value in ("shapes", "imageHeight", "imagePath"):
                        return "labelme"
                    if value in ("images", "annotations", "categories"):
                        return "coco"
    except (ijson.JSONError, UnicodeDecodeError):
        return None
    return None


def class_folders(labels: Sequence[str], top: str) -> dict[str, list[str]]:
    """Masks by the folder directly below `top` in which they lie."""
    folders: dict[str, list[str]] = {}
    for path in labels:
        inner = PurePosixPath(path).relative_to(top).parts
        if len(inner) == 2:
            folders.setdefault(inner[0], []).append(path)
    return folders


class Suffixes(NamedTuple):
    """How masks of one class each are called: IMAGE, a separator, and a word."""

    separator: str
    words: tuple[str, ...]


def class_suffixes(images: Sequence[str], labels: Sequence[str]) -> Suffixes | None:
    """The words by which the masks of an image differ: 01_tree and 01_car of 01.

    None unless all labels of one folder are called so, most images have several, and no word says
    what kind of label it is.
    """
    stems = {stem_of(path) for path in images}
    found: dict[tuple[str, str], set[str]] = {}
    for path in labels:
        cut = re.fullmatch(r"(.+)([_-])([^_-]*[A-Za-z][^_-]*)", stem_of(path))
        if cut is None or cut[1] not in stems or is_label(cut[3]) or speaks_of_kind(cut[3]):
            return None
        found.setdefault((cut[2], cut[3]), set()).add(cut[1])
    separators = {separator for separator, _ in found}
    folders = {PurePosixPath(path).parent for path in labels}
    shared = Counter(stem for own in found.values() for stem in own)
    several = sum(count > 1 for count in shared.values()) > len(shared) / 2
    if len(found) < 2 or len(separators) > 1 or len(folders) > 1 or not several:
        return None
    return Suffixes(separators.pop(), tuple(sorted(word for _, word in found)))


def _by_class(images: Sequence[str], labels: Sequence[str], top: str) -> bool:
    """Whether each folder has masks of the same images, and is no split and no sequence."""
    folders = class_folders(labels, top)
    if folders.keys() & {folder for path in images for folder in PurePosixPath(path).parts}:
        return False
    if len(folders) < 2 or sum(map(len, folders.values())) < len(labels):
        return False
    if any(split_in(name) for name in folders):
        return False
    stems = Counter(stem for paths in folders.values() for stem in {stem_of(p) for p in paths})
    return sum(count > 1 for count in stems.values()) > len(stems) / 2


def matrix_key(path: Path, size: tuple[int, int]) -> str:
    """The name of the matrix of ids in a .mat file, such as `groundtruth` or `GTcls.Segmentation`.

    Args:
        size: (width, height) of its image.

    Raises:
        PipelineError: when no matrix has the size of the image, or several have.
    """
    try:
        content = scipy.io.loadmat(path, appendmat=False)
    except Exception as error:  # On broken files scipy raises anything, down to IndexError.
        raise PipelineError(f"{path}: cannot be read: {error}") from error
    found: dict[str, tuple[int, ...]] = {}
    for name, value in content.items():
        if not name.startswith("__"):
            _collect(name, value, found, 0)
    fitting = [name for name, shape in found.items() if shape == (size[1], size[0])]
    named = [name for name in fitting if any(word in name.lower() for word in _MATRIX)]
    chosen = fitting if len(fitting) == 1 else named
    if len(chosen) != 1:
        shown = ", ".join(f"{name} {shape}" for name, shape in found.items()) or "no matrix"
        raise PipelineError(
            f"{path}: holds {shown}; expected one matrix of ids ({size[1]}, {size[0]}), the size "
            "of its image: write the card by hand with its name as source.labels.key"
        )
    return chosen[0]


def _collect(name: str, value: object, found: dict[str, tuple[int, ...]], depth: int) -> None:
    """The numeric matrices in a variable, and in the fields of structures of one element."""
    if not isinstance(value, np.ndarray) or depth > _DEPTH:
        return
    if value.dtype.names is not None:
        for field in value.dtype.names if value.size == 1 else ():
            _collect(f"{name}.{field}", value[field].item(), found, depth + 1)
    elif value.dtype.kind in "buif" and value.ndim == 2 and math.prod(value.shape) > 1:
        found[name] = value.shape
