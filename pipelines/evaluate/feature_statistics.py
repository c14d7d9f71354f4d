"""Statistics of pixel features by class: mean and scatter over all pixels, and a sample of them.

In one pass, image by image, in float64. Nothing depends on how images were put into batches.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

_BLOCK = 8192
"""Pixels that are held in float64 at a time."""


class ImageClass(NamedTuple):
    """The pixels of one class in one image."""

    blocks: list[tuple[int, np.ndarray, float]]
    """Of blocks of them: number, mean (C,) and sum of squared distances to it."""
    drawn: dict[str, np.ndarray] | None
    """Those that the sample may take, if any."""


@dataclass
class FeatureStatistics:
    """Running statistics of the features of K classes in C channels.

    Attributes:
        size: pixels to sample of each class, at most.
        seed: of the sample.
        pixels: (K,) so far.
        mean: (K, C) so far.
        squares: (K,), the sum of squared Euclidean distances to the mean so far.
        sample: of each class `key` (n,), by which it is ordered, `feature` (n, C) float16, `image`
            (n,) and `position` (n, 2), row and column.
    """

    classes: int
    channels: int
    size: int
    seed: int
    pixels: np.ndarray = field(init=False)
    mean: np.ndarray = field(init=False)
    squares: np.ndarray = field(init=False)
    sample: list[dict[str, np.ndarray]] = field(init=False)

    def __post_init__(self) -> None:
        self.pixels = np.zeros(self.classes, np.int64)
        self.mean = np.zeros((self.classes, self.channels))
        self.squares = np.zeros(self.classes)
        nothing: dict[str, np.ndarray] = {
            "key": np.zeros(0),
            "feature": np.zeros((0, self.channels), np.float16),
            "image": np.zeros(0, np.int64),
            "position": np.zeros((0, 2), np.int64),
        }
        self.sample = [nothing] * self.classes
        # A pixel with a larger key is not drawn.
        self._limits = np.full(self.classes, np.inf if self.size else 0.0)

    def add(self, image: int, features: np.ndarray, labels: np.ndarray) -> None:
        """Features (C, h, w) and labels (h, w) of one image; labels outside 0..K-1 are left out."""
        self.join(self.of_image(image, features, labels))

    def of_image(
        self, image: int, features: np.ndarray, labels: np.ndarray
    ) -> dict[int, ImageClass]:
        """What `join` needs of an image, by class. Another process may do this part."""
        columns, flat = features.reshape(self.channels, -1), labels.ravel()
        # A key for each place, whatever lies there: two runs draw the same pixels.
        keys = np.random.default_rng([self.seed, image]).random(flat.size)
        # All pixels of classes, class by class, those of a class in their order.
        order = np.argsort(flat, kind="stable")
        bounds = np.searchsorted(flat[order], np.arange(self.classes + 1))
        order, bounds = order[bounds[0] : bounds[-1]], bounds - bounds[0]
        may = keys[order] < np.repeat(self._limits, np.diff(bounds))
        # At once where they are few, which is faster.
        rows = _rows(columns, order) if order.size <= _BLOCK else None
        found = {}
        for label, (first, end) in enumerate(itertools.pairwise(bounds.tolist())):
            if first == end:
                continue
            blocks = []
            for start in range(first, end, _BLOCK):
                part = slice(start, min(start + _BLOCK, end))
                blocks.append(_moments(_rows(columns, order[part]) if rows is None else rows[part]))
            places = order[first:end][may[first:end]]
            drawn = self._draw(image, keys, places, columns, labels.shape[1])
            found[label] = ImageClass(blocks, drawn)
        return found

    def join(self, found: dict[int, ImageClass]) -> None:
        """Add one image. Sums depend on the order of images, in their last digits."""
        for label, (blocks, drawn) in found.items():
            for block in blocks:
                self._merge(label, *block)
            kept = self.sample[label]
            if drawn is not None:
                both = {name: np.concatenate([kept[name], drawn[name]]) for name in kept}
                order = np.argsort(both["key"], kind="stable")[: self.size]
                self.sample[label] = {name: values[order] for name, values in both.items()}
                if order.size == self.size:
                    self._limits[label] = self.sample[label]["key"][-1]

    def _merge(self, label: int, new: int, mean: np.ndarray, within: float) -> None:
        """Join mean and squared distances of two sets of pixels (Chan, Golub and LeVeque)."""
        old = self.pixels[label]
        delta = mean - self.mean[label]
        between = np.einsum("c,c->", delta, delta)
        self.squares[label] += within + between * (old * new / (old + new))
        self.mean[label] += delta * (new / (old + new))
        self.pixels[label] += new

    def _draw(
        self, image: int, keys: np.ndarray, places: np.ndarray, columns: np.ndarray, width: int
    ) -> dict[str, np.ndarray] | None:
        """Of the pixels at `places` those with the smallest keys: a uniform sample without
        replacement."""
        if not places.size:
            return None
        places = places[np.argsort(keys[places], kind="stable")[: self.size]]
        with np.errstate(over="ignore"):
            drawn = columns.T[places].astype(np.float16)
        return {
            "key": keys[places],
            "feature": drawn,
            "image": np.full(places.size, image),
            "position": np.stack([places // width, places % width], axis=1),
        }


def _rows(columns: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Pixels (n, C) in float64 of features (C, pixels), the channels of each side by side."""
    return columns[:, places].T.astype(np.float64, order="C")


def _moments(rows: np.ndarray) -> tuple[int, np.ndarray, float]:
    """Number, mean (C,) and sum of squared distances to it of pixels (n, C), which are changed."""
    mean = rows.mean(axis=0)
    rows -= mean
    # Not a product of BLAS, whose threads number what the machine has: other sums, and slow.
    return len(rows), mean, np.einsum("nc,nc->", rows, rows)
