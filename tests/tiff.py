"""TIFF files of kinds that Pillow does not write: of 16 bits, planar, with more bands or pages."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np

_FORMATS = {"u": 1, "i": 2, "f": 3}


def tiff(
    *pages: np.ndarray,
    order: str = "<",
    planar: bool = False,
    photometric: int | None = None,
    extra: tuple[int, ...] = (),
    tags: Mapping[int, int] | None = None,
) -> bytes:
    """An uncompressed TIFF of arrays (H, W) or (H, W, bands).

    Args:
        order: `<` or `>`, of bytes.
        planar: one band after the other.
        photometric: by default grey for one band, RGB for more.
        extra: what each band beyond the colours is; 0 says nothing.
        tags: others, numbers of 16 bits, of all pages but the first.
    """
    data = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 0)
    link = 4
    for number, page in enumerate(pages):
        bands = 1 if page.ndim == 2 else page.shape[2]
        pixels = page.astype(page.dtype.newbyteorder(order))
        strip = (pixels.transpose(2, 0, 1) if planar else pixels).tobytes()
        strips = bands if planar else 1
        at = len(data)
        data += strip + b"\0" * (len(strip) % 2)
        colours = photometric if photometric is not None else (1 if bands == 1 else 2)
        values: dict[int, tuple[str, tuple[int, ...]]] = {
            256: ("H", (page.shape[1],)),
            257: ("H", (page.shape[0],)),
            258: ("H", (page.dtype.itemsize * 8,) * bands),
            259: ("H", (1,)),
            262: ("H", (colours,)),
            273: ("I", tuple(at + k * len(strip) // strips for k in range(strips))),
            277: ("H", (bands,)),
            278: ("H", (page.shape[0],)),
            279: ("I", (len(strip) // strips,) * strips),
            284: ("H", (2 if planar else 1,)),
            339: ("H", (_FORMATS[page.dtype.kind],) * bands),
        }
        if extra:
            values[338] = ("H", extra)
        if number or len(pages) == 1:
            values |= {tag: ("H", (value,)) for tag, value in (tags or {}).items()}
        entries = b""
        for tag, (kind, numbers) in sorted(values.items()):
            packed = struct.pack(order + kind * len(numbers), *numbers)
            if len(packed) > 4:
                place, data = len(data), data + packed + b"\0" * (len(packed) % 2)
                packed = struct.pack(order + "I", place)
            entries += struct.pack(order + "HHI", tag, 3 if kind == "H" else 4, len(numbers))
            entries += packed.ljust(4, b"\0")
        place = len(data)
        data = data[:link] + struct.pack(order + "I", place) + data[link + 4 :]
        data += struct.pack(order + "H", len(values)) + entries + b"\0" * 4
        link = len(data) - 4
    return data
