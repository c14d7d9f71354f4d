"""Draw the split lists of a data set that has none of its own, to be committed.

`python -m pipelines.prepare.split_lists --dataset ccp --sizes train=604 val=100 test=300` writes
`params/datasets/splits/ccp/{train,val,test}.txt`, a stem a line, which the card's `list` keys name.
It reads what fetch brought. The rule:

1. Images that are nearly equal stay together: those whose grey thumbnails of 16 x 16 pixels have a
   correlation above 0.9, and those joined by a chain of such.
2. Classes are taken from the rarest to the most frequent, by the images that hold them (iterative
   stratification: Sechidis, Tsoumakas, Vlahavas, ECML PKDD 2011). The images of a class that have
   no part yet, in an order drawn with the seed and those that stay together first, go one after the
   other to the part that lacks most images of this class for its share of all images; of equal
   parts to the one with the most room. No part takes more than its size.
3. A draw that leaves a part without some class is refused: choose another seed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image
from scipy.sparse import csr_array, vstack
from scipy.sparse.csgraph import connected_components

from pipelines.base.errors import PipelineError
from pipelines.prepare.faults import Unusable
from pipelines.prepare.labels import class_pixels, read_label
from pipelines.prepare.pairs import Pair
from pipelines.prepare.raster import read_image
from pipelines.prepare.splits import find_split
from pipelines.running.cli import guarded
from pipelines.study import PARAMS, Dataset
from pipelines.study.cards import FilesSource
from pipelines.study.digits import Split

ALIKE = 0.9
"""Correlation of thumbnails above which two images are nearly equal."""

_SIDE = 16
_BLOCK = 1024


def draw(
    holds: np.ndarray,
    groups: np.ndarray,
    sizes: Mapping[str, int],
    seed: int,
    *,
    exact: bool = True,
) -> dict[str, list[int]]:
    """The images of each part, by the rule above.

    Args:
        holds: (N, K) bool, whether an image holds a class.
        groups: (N,) equal numbers for images that stay together.
        sizes: images of each part, N in all.
        exact: otherwise the sizes are what is aimed at: images that stay together and fit no part
            go to the one with the most room, and a part may lack a class.

    Raises:
        ValueError: when the sizes do not add up, or, if exact, a class cannot be in each part.
    """
    if sum(sizes.values()) != len(holds):
        raise ValueError(f"the parts have {sum(sizes.values())} images of {len(holds)}")
    parts, room = list(sizes), np.array(list(sizes.values()))
    share = room / room.sum()
    lacks = np.outer(share, holds.sum(axis=0))
    part = np.full(len(holds), -1)
    order = np.random.default_rng(seed).permutation(len(holds))
    counts = np.bincount(groups)
    order = order[np.argsort(-counts[groups[order]], kind="stable")]
    for label in np.argsort(holds.sum(axis=0), kind="stable"):
        for image in order:
            if part[image] >= 0 or not holds[image, label]:
                continue
            together = groups == groups[image]
            fits = np.flatnonzero(room >= together.sum())
            if not fits.size:
                if exact:
                    raise ValueError(
                        "images that stay together do not fit any part; try another seed"
                    )
                fits = np.flatnonzero(room == room.max())
            best = max(fits, key=lambda each: (lacks[each, label], room[each]))
            part[together] = best
            room[best] -= together.sum()
            lacks[best] -= holds[together].sum(axis=0)
    drawn = {name: np.flatnonzero(part == index).tolist() for index, name in enumerate(parts)}
    for name, images in drawn.items():
        absent = np.flatnonzero(holds.any(axis=0) & ~holds[images].any(axis=0))
        if absent.size and exact:
            raise ValueError(f"part {name} has no image of class {absent[0]}; try another seed")
    return drawn


def nearly_equal(thumbnails: np.ndarray) -> np.ndarray:
    """The same number (N,) for images whose thumbnails (N, D) correlate above `ALIKE`."""
    alike = [csr_array(block) for block in _alike(thumbnails, thumbnails)]
    return connected_components(vstack(alike), directed=False)[1]


def alike_to(thumbnails: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Whether (N,) a thumbnail (N, D) correlates above `ALIKE` with one of the others (M, D)."""
    return np.concatenate([block.any(axis=1) for block in _alike(thumbnails, others)])


def _alike(some: np.ndarray, others: np.ndarray) -> Iterator[np.ndarray]:
    """Which of `some` (N, D) are alike to which others (M, D): blocks of rows of (N, M) bool.

    Block by block, since of 20,000 images all correlations would take 3 GB.
    """
    rows, columns = _standardised(some), _standardised(others)
    for top in range(0, len(rows), _BLOCK):
        yield rows[top : top + _BLOCK] @ columns.T > ALIKE


def _standardised(thumbnails: np.ndarray) -> np.ndarray:
    centred = thumbnails - thumbnails.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    standardised: np.ndarray = centred / np.where(norms, norms, 1)
    return standardised


def thumbnail(picture: Image.Image) -> np.ndarray:
    """Grey values (256,) float64 of an image made small."""
    small = picture.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64).ravel()


def write_lists(dataset: Dataset, sizes: Mapping[str, int], seed: int, folder: Path) -> None:
    """Draw the parts of all images that the card's split train has without its list.

    Raises:
        PipelineError: when fetch has not run, files cannot be used, or there is no such draw.
    """
    card = dataset.card
    if not isinstance(card.source, FilesSource):
        raise PipelineError(f"{dataset.card_file}: source: expected images and labels in files")
    if not dataset.fetched.is_file():
        raise PipelineError(f"{dataset.fetched}: not found; {dataset.again('fetch')}")
    spec = card.source.splits["train"].model_copy(update={"list": None, "strip": None})
    source = card.source.model_copy(update={"splits": card.source.splits | {"train": spec}})
    pairs, faults = find_split(dataset.raw, "train", source, card.classes)
    if faults:
        raise PipelineError(f"{dataset.raw}/{faults[0].file}: {faults[0].reason}")
    holds = np.array([_held(pair, dataset) for pair in pairs])
    groups = nearly_equal(np.stack([_thumbnail(pair, dataset) for pair in pairs]))
    try:
        drawn = draw(holds, groups, sizes, seed)
    except ValueError as error:
        raise PipelineError(f"{dataset.name}: {error}") from None
    folder.mkdir(parents=True, exist_ok=True)
    for name, images in drawn.items():
        lines = "".join(f"{pairs[image].stem}\n" for image in images)
        (folder / f"{name}.txt").write_text(lines, encoding="utf-8")
    for line in _summary(pairs, holds, groups, drawn, card.classes):
        print(line)


def _held(pair: Pair, dataset: Dataset) -> np.ndarray:
    try:
        label = read_label(dataset.raw, pair.label, dataset.card)
    except Unusable as reason:
        raise PipelineError(f"{dataset.raw}/{pair.label}: {reason}") from None
    return class_pixels(label, dataset.card) > 0


def _thumbnail(pair: Pair, dataset: Dataset) -> np.ndarray:
    path = dataset.raw / pair.image
    try:
        return thumbnail(read_image(path, dataset.card.files.max_pixels).pixels)
    except Unusable as reason:
        raise PipelineError(f"{path}: {reason}") from None


def _summary(
    pairs: Sequence[Pair],
    holds: np.ndarray,
    groups: np.ndarray,
    drawn: Mapping[str, Sequence[int]],
    classes: Sequence[str],
) -> Iterator[str]:
    """Lines on what was drawn: which images are nearly equal, and in how many each class is."""
    for group in np.flatnonzero(np.bincount(groups) > 1):
        alike = [pairs[image].stem for image in np.flatnonzero(groups == group).tolist()]
        yield f"nearly equal: {' '.join(alike)}"
    yield f"images that hold a class, in {', '.join(drawn)}:"
    for label, name in enumerate(classes):
        counts = [int(holds[images, label].sum()) for images in drawn.values()]
        yield f"  {name}: {' '.join(map(str, counts))}"


def _size(text: str) -> tuple[str, int]:
    name, _, count = text.partition("=")
    if name not in get_args(Split) or not count.isdecimal() or not int(count):
        raise argparse.ArgumentTypeError(f"{text!r}: expected such as train=604")
    return name, int(count)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.prepare.split_lists",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--sizes", nargs="+", type=_size, required=True, metavar="SPLIT=IMAGES")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    args = parser.parse_args(argv)

    def command() -> None:
        folder = PARAMS / "datasets" / "splits" / args.dataset
        write_lists(Dataset.load(args.dataset), dict(args.sizes), args.seed, folder)
        print(f"wrote {folder}")

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
