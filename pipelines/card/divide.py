"""Which images train and which test, where the data does not say so: without leakage.

Images that belong together stay together: copies, nearly equal images, and the frames of one
sequence, as far as names and folders tell. The groups are drawn by `prepare.split_lists.draw`. One
long sequence alone is cut into blocks instead.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import PurePosixPath

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from pipelines.base.errors import PipelineError
from pipelines.prepare.split_lists import alike_to, draw, nearly_equal
from pipelines.study.digits import Split

_THREE = 30
"""With fewer groups of images there is no val split."""
_SHARES: dict[int, dict[Split, float]] = {
    3: {"train": 0.7, "val": 0.1, "test": 0.2},
    2: {"train": 0.7, "test": 0.3},
}
_SEQUENCES = 3
"""With fewer, a common beginning of names is that of a camera, not of a sequence."""
_LARGEST = 0.5
"""Share of all images above which those that are alike are a sequence to be cut."""
_SEEDS = 20


@dataclass(frozen=True)
class Division:
    """The parts, as places in the images that were given, and how they came about."""

    parts: dict[Split, list[int]]
    told: list[str]


def divide(
    images: Sequence[str], thumbnails: np.ndarray, digests: Sequence[str], holds: np.ndarray
) -> Division:
    """Draw the splits of a data set that has none.

    Args:
        images: N paths.
        thumbnails: (N, D) float64, see `split_lists.thumbnail`.
        digests: of the images' pixels.
        holds: (N, K) bool, whether an image holds a class.

    Raises:
        PipelineError: for fewer than two images that are not copies of each other.
    """
    if len(set(digests)) < 2:
        copies = "" if len(images) == 1 else f" ({len(images)} files have its pixels)"
        raise PipelineError(
            f"{images[0]}: is the only image with a label{copies}; expected two at least, one to "
            "train on and one to test on"
        )
    alike = nearly_equal(thumbnails)
    frames, by = _sequences(images)
    groups = _joined(alike, frames, _numbers(digests))
    largest = np.bincount(groups).max() / len(images)
    if len(set(groups.tolist())) < 2 or (largest > _LARGEST and len(set(frames)) == 1):
        return _blocks(images, digests)
    count = 3 if len(set(groups.tolist())) >= _THREE else 2
    sizes = _sizes(len(images), count)
    wanted = {str(split): size for split, size in sizes.items()}
    best: tuple[int, int, dict[str, list[int]]] | None = None
    for seed in range(_SEEDS):
        parts = draw(holds, groups, wanted, seed, exact=False)
        lacks = _lacks(parts, holds)
        if best is None or lacks < best[0]:
            best = lacks, seed, parts
        if not lacks:
            break
    assert best is not None
    _, seed, drawn = best
    if not all(drawn.values()):
        return _blocks(images, digests)
    together = Counter(groups.tolist())
    kept = sum(count for count in together.values() if count > 1)
    told = [
        "drawn by python -m pipelines.card, stratified by class from the rarest on "
        f"(pipelines.prepare.split_lists), seed {seed}",
        f"{len(together)} groups of {len(images)} images: {kept} images are nearly equal to others"
        f"{f' or {by}' if by else ''}, and those stay in one split"
        if kept
        else "no two images are nearly equal",
    ]
    return Division({split: drawn[split] for split in sizes}, told)


def near_copies(
    thumbnails: Mapping[Split, np.ndarray],
) -> dict[tuple[Split, Split], int]:
    """How many images of a later split are nearly equal to one of an earlier, where any are.

    Args:
        thumbnails: (N, D) of each split, in order.
    """
    counts = {
        (earlier, later): int(alike_to(thumbnails[later], thumbnails[earlier]).sum())
        for earlier, later in combinations(thumbnails, 2)
    }
    return {pair: count for pair, count in counts.items() if count}


def _sequences(images: Sequence[str]) -> tuple[list[str], str]:
    """The sequence of each image, by its folder or by its name before the last number."""
    folders = [str(PurePosixPath(image).parent) for image in images]
    if len(set(folders)) >= _SEQUENCES:
        return folders, "in the same folder"
    names = [re.sub(r"\d+\D*$", "", PurePosixPath(image).stem) for image in images]
    several = [name for name, count in Counter(names).items() if count > 1 and name]
    if len(set(names)) >= _SEQUENCES and len(several) >= _SEQUENCES:
        return names, "in the same sequence by their names"
    return [""] * len(images), ""


def _joined(alike: np.ndarray, frames: Sequence[str], copies: np.ndarray) -> np.ndarray:
    """Equal numbers (N,) for images that are joined by a chain of any of the three relations."""
    count = len(alike)
    rows, columns = [], []
    labellings = [alike, copies]
    if len(set(frames)) > 1:
        labellings.append(_numbers(frames))
    for labelling in labellings:
        first: dict[int, int] = {}
        for place, group in enumerate(labelling.tolist()):
            rows.append(first.setdefault(group, place))
            columns.append(place)
    graph = csr_array((np.ones(len(rows)), (rows, columns)), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def _blocks(images: Sequence[str], digests: Sequence[str]) -> Division:
    """Cut a sequence where it stands: the first images train, the last test."""
    order = sorted(range(len(images)), key=lambda place: _natural(images[place]))
    sizes = _sizes(len(order), 3 if len(order) >= _THREE else 2)
    parts: dict[Split, list[int]] = {}
    start, seen = 0, set[str]()
    for split, size in sizes.items():
        chosen = order[start : start + size]
        # A copy of an image in an earlier block is in none.
        parts[split] = [place for place in chosen if digests[place] not in seen]
        seen |= {digests[place] for place in chosen}
        start += size
    if not all(parts.values()):
        raise PipelineError(
            f"{images[0]}: {len(images)} images are copies of so few that no part could be tested "
            "on; expected different images"
        )
    return Division(
        parts,
        [
            "nearly all images are alike, as of one sequence: cut into blocks in the order of "
            "their names, so the images at the seams are nearly equal and scores are too good",
        ],
    )


def _sizes(count: int, parts: int) -> dict[Split, int]:
    shares = _SHARES[parts]
    sizes: dict[Split, int] = {
        split: max(1, round(share * count)) for split, share in shares.items()
    }
    sizes["train"] = count - sum(size for split, size in sizes.items() if split != "train")
    return sizes


def _lacks(parts: dict[str, list[int]], holds: np.ndarray) -> int:
    """How many classes the parts lack; one that train lacks cannot be learned and counts most."""
    total = 0
    for name, places in parts.items():
        absent = int((holds.any(axis=0) & ~holds[places].any(axis=0)).sum()) if places else 100
        total += absent * (100 if name == "train" else 1)
    return total


def _numbers(names: Sequence[str]) -> np.ndarray:
    return np.unique(np.array(names), return_inverse=True)[1]


def _natural(path: str) -> list[tuple[int, int | str]]:
    words = re.split(r"(\d+)", path)
    return [(0, int(word)) if word.isdecimal() else (1, word) for word in words if word]
