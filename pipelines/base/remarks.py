"""What a reader has to know of a data set before believing its numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any


def remarks(info: Mapping[str, Any]) -> list[str]:
    """A line each on files that were left out, images that are in two splits, and classes that a
    training cannot learn; none of most data.

    Args:
        info: contents of the data set's info.json.
    """
    said = []
    for split, count in info["counts"].items():
        lost = len(info.get("skipped", {}).get(split, []))
        if lost:
            words = "1 file" if lost == 1 else f"{lost} files"
            was = "was" if lost == 1 else "were"
            said.append(
                f"{words} of {split} could not be used and {was} left out; images used: {count}"
            )
    pairs = [[name.partition("/")[0] for name in pair] for pair in info.get("shared_images", [])]
    for (one, other), number in Counter(map(tuple, pairs)).items():
        said.append(f"images of {other} with the pixels of images of {one}: {number}")
    unlearned = [name for name, share in info["pixel_share"].items() if not share]
    if unlearned:
        said.append(f"classes without a pixel in train: {', '.join(unlearned)}")
    return said
