"""Labels of Pascal-Context in either of their publications: one JSON file, or MATLAB files.

`trainval_merged.json` is that of the Detail API: `images` (with `file_name`, `image_id`, `phase`)
and `annos_segmentation` (with `image_id`, `category_id` and a mask in COCO's run-length encoding).
The older archive has a file `LabelMap` an image. Both use the same ids, up to 459; a data card maps
those of its classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import ijson

from pipelines.base.errors import PipelineError
from pipelines.prepare.coco import check_depth, items
from pipelines.prepare.masks import Masks

JSON = "trainval_merged.json"
"""Its name below `files/`."""
MATRIX = "LabelMap"
"""The matrix of the older archive's files."""


@dataclass(frozen=True)
class Annotations:
    """The JSON file as far as semantic segmentation needs it."""

    images: dict[str, list[str]]
    """File names by phase: train, val, test."""
    masks: dict[str, Masks]
    """By file name."""


def read_annotations(path: Path) -> Annotations:
    """Read the JSON file piece by piece: as a whole it takes several times its size of memory.

    Raises:
        PipelineError: when it is not what the Detail API reads.
    """
    try:
        check_depth(path)
        of_id = {image["image_id"]: image for image in items(path, "images")}
        parts: dict[int, list[tuple[int | str, str | bytes]]] = {number: [] for number in of_id}
        for one in items(path, "annos_segmentation"):
            code = one["segmentation"]
            image = of_id[one["image_id"]]
            if code["size"] != [image["height"], image["width"]]:
                raise PipelineError(
                    f"{path}: {image['file_name']} has {image['height']} x {image['width']} pixels "
                    f"and a mask of {code['size'][0]} x {code['size'][1]}; expected one size"
                )
            parts[one["image_id"]].append((one["category_id"], code["counts"]))
        images: dict[str, list[str]] = {}
        masks = {}
        for number, image in of_id.items():
            name, size = image["file_name"], (image["height"], image["width"])
            images.setdefault(image["phase"], []).append(name)
            masks[name] = Masks(JSON, name, size, tuple(parts.pop(number)))
    except (ijson.JSONError, KeyError, TypeError) as error:
        raise PipelineError(
            f"{path}: not the annotations of the Detail API ({error!r}); expected the "
            f"{JSON} that it reads; fetch it again"
        ) from error
    return Annotations(images, masks)
