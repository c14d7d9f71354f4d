"""A picture of a feature space: t-SNE of the pixels that evaluate sampled.

Distances between far groups, and the sizes of groups, mean nothing in it; which points lie together
does. The same sample gives the same picture: one thread, a fixed start and a fixed seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.evaluate.kept import Analysis

POINTS = 800
"""At most, all classes together; as many of each class as it has, up to its share."""

LEAST = 10
"""Fewer points show nothing."""


@dataclass(frozen=True)
class Embedding:
    points: np.ndarray
    """(n, 2) places of the pixels."""
    labels: np.ndarray
    """(n,) their classes."""
    anchors: np.ndarray
    """(m, 2) places of the semantic anchors, embedded together with the pixels."""
    anchor_labels: np.ndarray
    """(m,) their classes."""


def embed(found: Analysis) -> Embedding | None:
    """The sample of a run in the plane, or None where there is too little of it."""
    labels = found.sample.get("class", np.zeros(0, int)).astype(int)
    share = max(1, POINTS // len(found.classes))
    # The first of a class are a random sample of it.
    chosen = np.concatenate(
        [np.flatnonzero(labels == label)[:share] for label in range(len(found.classes))]
    )
    if len(chosen) < LEAST:
        return None
    anchors, of = np.zeros((0, found.sample["feature"].shape[1])), np.zeros(0, int)
    if found.anchors is not None:
        # An anchor is zero where the gate never opened.
        of = np.flatnonzero((found.anchors != 0).any(axis=1))
        anchors = found.anchors[of]
    features = np.concatenate([found.sample["feature"][chosen], anchors]).astype(np.float64)
    places = _plane(features)
    count = len(chosen)
    return Embedding(places[:count], labels[chosen], places[count:], of)


def _plane(features: np.ndarray) -> np.ndarray:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(30.0, (len(features) - 1) / 3)
    # Sums over several threads come in any order, and t-SNE enlarges every last bit.
    with threadpool_limits(limits=1):
        places = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(features)
    return places.astype(np.float64)
