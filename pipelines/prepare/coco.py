"""Labels in a COCO file: `images`, `annotations` and `categories` in one JSON.

Which images a split has is said by the file. Crowds (`iscrowd`) are pixels of their category like
others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import ijson

from pipelines.base.errors import PipelineError
from pipelines.prepare.faults import Fault, Unusable
from pipelines.prepare.masks import Masks, run_lengths
from sar.large_images import MAX_PIXELS

_DEPTH = 100


def read_coco(
    files: Path, name: str, max_pixels: int = MAX_PIXELS
) -> tuple[dict[str, Masks], list[Fault]]:
    """The labels of a COCO file by the file names of its images, and what is wrong with others.

    It is read piece by piece: as a whole it takes several times its size of memory.

    Args:
        files: the folder of the raw files.
        name: the COCO file below it.
        max_pixels: images of more are faults.

    Raises:
        PipelineError: when it is none, or contradicts itself.
    """
    path = files / name
    try:
        check_depth(path)
        names = _names(path)
        described = list(items(path, "images"))
        images = {_whole(each["id"]): each for each in described}
        for each in described:
            _is_below(each["file_name"])
        sizes = {key: (_whole(i["height"]), _whole(i["width"])) for key, i in images.items()}
        parts: dict[int, list[tuple[int | str, str | bytes]]] = {key: [] for key in images}
        faults: list[Fault] = []
        for key, (height, width) in sizes.items():
            if not 0 < height * width <= max_pixels:
                reason = (
                    f"has {height} x {width} pixels; expected 1 to {max_pixels} in all, which "
                    "source.max_pixels in the card raises"
                )
                faults.append(Fault(f"{name}, {images[key]['file_name']}", reason))
                parts.pop(key)
        for each in items(path, "annotations"):
            image, category = each["image_id"], each["category_id"]
            if image not in images or category not in names:
                wrong = f"category_id {category}" if image in images else f"image_id {image}"
                raise PipelineError(
                    f"{path}: annotation {each.get('id')} has {wrong}, which the file does not "
                    "describe; export it again"
                )
            if image not in parts:
                continue
            try:
                code = run_lengths(each.get("segmentation"), sizes[image])
            except Unusable as reason:
                at = f"{name}, {images[image]['file_name']}"
                faults.append(Fault(at, f"annotation {each.get('id')} {reason}"))
                parts.pop(image)
            else:
                parts[image].append((names[category], code))
        found = {
            images[key]["file_name"]: Masks(name, images[key]["file_name"], sizes[key], tuple(own))
            for key, own in parts.items()
        }
    except (ijson.JSONError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise PipelineError(
            f"{path}: not a COCO file ({error!r}); expected images (id, file_name, height, width), "
            "annotations (image_id, category_id, segmentation) and categories (id, name)"
        ) from error
    _no_twins(path, "images have the id", [each["id"] for each in described])
    _no_twins(path, "images have the file_name", [each["file_name"] for each in described])
    return found, faults


def check_depth(path: Path) -> None:
    """Refuse a JSON file that is nested deeply: `items` would take memory by the square of it.

    Raises:
        PipelineError: for more than 100 levels.
        ijson.JSONError: when it is no JSON.
    """
    depth = 0
    with path.open("rb") as file:
        for event, _ in ijson.basic_parse(file):
            if event in ("start_array", "start_map"):
                depth += 1
            elif event in ("end_array", "end_map"):
                depth -= 1
            if depth > _DEPTH:
                raise PipelineError(f"{path}: is nested more than {_DEPTH} levels deep")


def items(path: Path, key: str) -> Iterator[dict[str, Any]]:
    """The objects of a list of a JSON file, one by one."""
    with path.open("rb") as file:
        yield from ijson.items(file, f"{key}.item", use_float=True)


def _names(path: Path) -> dict[int, str]:
    categories = list(items(path, "categories"))
    names = {_whole(each["id"]): str(each["name"]) for each in categories}
    _no_twins(path, "categories have the id", [each["id"] for each in categories])
    _no_twins(path, "categories have the name", list(names.values()))
    if not names:
        raise PipelineError(f"{path}: describes no categories; expected a COCO file with some")
    return names


def _no_twins(path: Path, what: str, values: list[Any]) -> None:
    value, count = next(iter(Counter(values).most_common(1)), (None, 0))
    if count > 1:
        raise PipelineError(f"{path}: {count} {what} {value!r}; expected one; export it again")


def _is_below(name: str) -> None:
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"file_name {name!r} where a path below a folder is expected")


def _whole(number: Any) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise ValueError(f"{number!r} where a whole number is expected")
    return number
