"""Raw files that were damaged by chance: read, or refused in words, and never anything else."""

from __future__ import annotations

import io
import json
import random
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.base.errors import PipelineError
from pipelines.prepare.arrays import read_array
from pipelines.prepare.coco import read_coco
from pipelines.prepare.faults import Unusable
from pipelines.prepare.labelme import drawn, read_labelme
from pipelines.prepare.masks import decode
from pipelines.prepare.raster import read_colours, read_image, read_index
from tests.pipelines.prepare.raw import picture, truth
from tests.tiff import tiff

RGB = Image.fromarray(picture())


def encoded(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, truth())
    return buffer.getvalue()


RASTERS = [
    tiff(picture()),
    tiff(truth().astype(np.uint16), order=">"),
    tiff(np.dstack([truth().astype(np.uint16)] * 3)),
    *(encoded(RGB, format) for format in ("PNG", "GIF", "BMP", "PPM", "JPEG", "WEBP", "JPEG2000")),
    encoded(RGB.quantize(4), "PNG"),
    encoded(RGB, "TIFF", compression="tiff_adobe_deflate"),
    encoded(RGB, "PNG", save_all=True, append_images=[RGB]),
]
LABELME = {
    "imageHeight": 12,
    "imageWidth": 16,
    "shapes": [
        {"label": "a", "points": [[1, 1], [5, 1], [5, 5]], "shape_type": "polygon"},
        {"label": "b", "points": [[1, 1], [5, 5]], "shape_type": "circle"},
    ],
}
COCO = {
    "images": [{"id": 7, "file_name": "a.png", "height": 12, "width": 16}],
    "categories": [{"id": 3, "name": "tree"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 3, "segmentation": [[1, 1, 5, 1, 5, 5]]},
        {
            "id": 2,
            "image_id": 7,
            "category_id": 3,
            "segmentation": {"size": [12, 16], "counts": [190, 2]},
        },
    ],
}


def bytes_changed(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.2:
        return content[: rng.randrange(len(content))]
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5])):
        place = rng.randrange(min(len(changed), rng.choice([40, 200, len(changed)])))
        changed[place] = rng.choice([0, 255, 127, 128, changed[place] ^ 1, rng.randrange(256)])
    return bytes(changed)


def values_changed(content: bytes, rng: random.Random) -> bytes:
    """Another value in place of one of a JSON file's."""
    text = content.decode()
    start, end = rng.choice([m.span() for m in re.finditer(r'-?\d+|"[^"]*"|\[|\]', text)])
    odd = ["-1", "0", "1e999", "1e308", "NaN", "null", "[]", "{}", '"x"', "1.5", "9" * 30, "true"]
    return (text[:start] + rng.choice(odd) + text[end:]).encode()


def read_shapes(path: Path) -> None:
    size, shapes = read_labelme(path, 10_000)
    list(drawn(size, [(index, shape) for index, (_, shape) in enumerate(shapes)]))


def read_masks(path: Path) -> None:
    for masks in read_coco(path.parent, path.name, 10_000)[0].values():
        list(decode(masks))


@pytest.mark.parametrize(
    ("contents", "readers"),
    [
        (RASTERS, (read_image, read_index, read_colours)),
        ([npy()], (lambda path: read_array(path, 10_000),)),
        ([json.dumps(LABELME).encode()], (read_shapes,)),
        ([json.dumps(COCO).encode()], (read_masks,)),
    ],
    ids=["rasters", "npy", "labelme", "coco"],
)
def test_damage_ends_in_words(tmp_path, contents: list[bytes], readers: tuple[Callable, ...]):
    rng = random.Random(0)
    path = tmp_path / "file"
    read = refused = 0
    for round in range(250):
        content = rng.choice(contents)
        change = values_changed if content[:1] == b"{" and round % 2 else bytes_changed
        path.write_bytes(change(content, rng))
        for reader in readers:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    reader(path)
                    read += 1
                except (Unusable, PipelineError) as error:
                    assert str(error)
                    refused += 1
    assert read and refused > 50
