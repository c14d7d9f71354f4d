"""Analyses made of given features, for the tests of what is measured on them."""

from __future__ import annotations

import numpy as np

from pipelines.evaluate.kept import FORMAT, Analysis


def analysis_of(features, labels, classes=None, **parts) -> Analysis:
    """What evaluate would keep of these pixels, all of them sampled.

    Args:
        features: (S, C).
        labels: (S,) class ids, in ascending order.
        parts: `weight`, `anchors`, `log`.
    """
    features, labels = np.asarray(features, np.float64), np.asarray(labels)
    count = classes or int(labels.max()) + 1
    mean = np.full((count, features.shape[1]), np.nan)
    scatter = np.full(count, np.nan)
    for label in np.unique(labels):
        rows = features[labels == label]
        mean[label] = rows.mean(axis=0)
        scatter[label] = ((rows - mean[label]) ** 2).sum(axis=1).mean()
    values = {
        "format": FORMAT,
        "seed": 0,
        "classes": [f"class {index}" for index in range(count)],
        "stems": ["a"],
        "form": "none",
        "images": {},
        "missing": "",
        "dropped": [],
        "stride": np.ones(2),
        "pixels": np.bincount(labels, minlength=count),
        "mean": mean,
        "scatter": scatter,
        "sample": {
            "feature": features,
            "class": labels,
            "image": np.zeros(len(labels), int),
            "position": np.zeros((len(labels), 2), int),
        },
        "weight": None,
        "bias": None,
        "anchors": None,
        "log": {},
    }
    return Analysis(**values | parts)


def clusters(rng, classes=4, channels=6, pixels=12, spread=0.3):
    """Features (S, C) and labels (S,) of Gaussian classes around random means."""
    labels = np.repeat(np.arange(classes), pixels)
    means = rng.standard_normal((classes, channels))
    return means[labels] + spread * rng.standard_normal((len(labels), channels)), labels


def rotation(rng, channels):
    return np.linalg.qr(rng.standard_normal((channels, channels)))[0]
