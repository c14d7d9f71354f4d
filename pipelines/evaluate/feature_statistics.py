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


class ImageFeatures(NamedTuple):
    """What is kept of the pixels of one image."""

    moments: list[tuple[int, int, np.ndarray, float]]
    """Of blocks of a class's pixels: class, number, mean (C,), sum of squared distances to it."""
    drawn: dict[str, np.ndarray]
    """The pixels that the sample may take, as `FeatureStatistics.sample`."""


@dataclass
class FeatureStatistics:
    """Running statistics of the features of K classes in C channels.

    Attributes:
        size: pixels to sample of each class, at most.
        seed: of the sample.
        pixels: (K,) so far.
        mean: (K, C) so far.
        squares: (K,), the sum of squared Euclidean distances to the mean so far.
    """

    classes: int
    channels: int
    size: int
    seed: int
    pixels: np.ndarray = field(init=False)
    mean: np.ndarray = field(init=False)
    squares: np.ndarray = field(init=False)
    _drawn: list[dict[str, np.ndarray]] = field(init=False)
    _held: int = field(init=False)

    def __post_init__(self) -> None:
        self.pixels = np.zeros(self.classes, np.int64)
        self.mean = np.zeros((self.classes, self.channels))
        self.squares = np.zeros(self.classes)
        nothing: dict[str, np.ndarray] = {
            "key": np.zeros(0),
            "class": np.zeros(0, np.int64),
            "feature": np.zeros((0, self.channels), np.float16),
            "image": np.zeros(0, np.int64),
            "position": np.zeros((0, 2), np.int64),
        }
        # Joined now and then: in the order of images, more than are kept.
        self._drawn, self._held = [nothing], 0
        # A pixel with a larger key is not drawn.
        self._limits = np.full(self.classes, np.inf if self.size else 0.0)

    @property
    def sample(self) -> dict[str, np.ndarray]:
        """A uniform sample without replacement of each class's pixels so far: `key` (n,), by which
        those of a `class` (n,) are ordered, `feature` (n, C) float16, `image` (n,), and `position`
        (n, 2), row and column."""
        self._join()
        return self._drawn[0]

    def _join(self) -> None:
        """Keep of what was drawn no more than the sample takes."""
        joined = {name: np.concatenate([d[name] for d in self._drawn]) for name in self._drawn[0]}
        kept = _smallest(joined["key"], joined["class"], self.size)
        joined = {name: values[kept] for name, values in joined.items()}
        self._drawn, self._held = [joined], kept.size
        full = np.bincount(joined["class"], minlength=self.classes) == self.size
        if self.size:
            last = np.searchsorted(joined["class"], np.flatnonzero(full), side="right") - 1
            self._limits[full] = joined["key"][last]

    def add(self, image: int, features: np.ndarray, labels: np.ndarray) -> None:
        """Features (C, h, w) and labels (h, w) of one image; labels outside 0..K-1 are left out."""
        self.join(self.of_image(image, features, labels))

    def of_image(self, image: int, features: np.ndarray, labels: np.ndarray) -> ImageFeatures:
        """What `join` needs of an image. Another process may do this part."""
        columns, flat = features.reshape(self.channels, -1), labels.ravel()
        # A key for each place, whatever lies there: two runs draw the same pixels.
        keys = np.random.default_rng([self.seed, image]).random(flat.size)
        # All pixels of classes, class by class, those of a class in their order.
        order = np.argsort(flat, kind="stable")
        bounds = np.searchsorted(flat[order], np.arange(self.classes + 1))
        order, bounds = order[bounds[0] : bounds[-1]], bounds - bounds[0]
        # At once where they are few, which is faster.
        rows = _rows(columns, order) if order.size <= _BLOCK else None
        moments = []
        for label, (first, end) in enumerate(itertools.pairwise(bounds.tolist())):
            for start in range(first, end, _BLOCK):
                part = slice(start, min(start + _BLOCK, end))
                # Not held by a name: the next block takes its place in memory, and in the cache.
                found = _moments(_rows(columns, order[part]) if rows is None else rows[part])
                moments.append((label, *found))
        places = order[keys[order] < self._limits[flat[order]]]
        places = places[_smallest(keys[places], flat[places], self.size)]
        with np.errstate(over="ignore"):
            drawn = columns.T[places].astype(np.float16)
        position = np.stack([places // labels.shape[1], places % labels.shape[1]], axis=1)
        return ImageFeatures(
            moments,
            {
                "key": keys[places],
                "class": flat[places],
                "feature": drawn,
                "image": np.full(places.size, image),
                "position": position,
            },
        )

    def join(self, found: ImageFeatures) -> None:
        """Add one image. Sums depend on the order of images, in their last digits."""
        for moments in found.moments:
            self._merge(*moments)
        if found.drawn["key"].size:
            self._drawn.append(found.drawn)
            self._held += found.drawn["key"].size
        if self._held > 2 * self.classes * self.size:
            self._join()

    def _merge(self, label: int, new: int, mean: np.ndarray, within: float) -> None:
        """Join mean and squared distances of two sets of pixels (Chan, Golub and LeVeque)."""
        old = self.pixels[label]
        delta = mean - self.mean[label]
        between = np.einsum("c,c->", delta, delta)
        self.squares[label] += within + between * (old * new / (old + new))
        self.mean[label] += delta * (new / (old + new))
        self.pixels[label] += new


def _smallest(keys: np.ndarray, labels: np.ndarray, size: int) -> np.ndarray:
    """The places of the `size` smallest keys of each label, label by label, the smallest first."""
    order = np.lexsort((keys, labels))
    ordered = labels[order]
    return order[np.arange(order.size) - np.searchsorted(ordered, ordered) < size]


def _rows(columns: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Pixels (n, C) in float64 of features (C, pixels), the channels of each side by side."""
    return columns[:, places].T.astype(np.float64, order="C")


def _moments(rows: np.ndarray) -> tuple[int, np.ndarray, float]:
    """Number, mean (C,) and sum of squared distances to it of pixels (n, C), which are changed."""
    mean = np.add.reduce(rows, axis=0) / len(rows)
    rows -= mean
    # Not a product of BLAS, whose threads number what the machine has: other sums, and slow.
    return len(rows), mean, np.einsum("nc,nc->", rows, rows)
