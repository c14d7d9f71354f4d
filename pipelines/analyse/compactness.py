"""Are pixels of a class closer together, and classes further apart, with a method than without?

Features of two methods differ in norm (SAR pulls them towards anchors of a norm of its own), so
lengths do not compare. The main measures are free of scale: multiply all features by a number, or
rotate them, and they stay. All count every class alike, whatever its pixels.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import pdist
from sklearn.metrics import silhouette_samples

from pipelines.evaluate.kept import Analysis

_SILHOUETTE_PIXELS = 3000
"""In all: distances of all pairs are made."""


def measures(analysis: Analysis) -> dict[str, float]:
    """The measures of one run, those of `MEASURES` that it has.

    With K classes of mean mu_k, mean squared distance s_k of their pixels to it, the mean M of
    the mu_k, and means over classes written < >:

    - within_variance: <s_k>, the trace of the within-class scatter matrix, classes counting alike;
      between_distance: Euclidean distance of two mu_k, mean over the pairs of classes;
      feature_norm: sqrt <|mu_k|^2>;
    - ratio: <s_k> / <|mu_k - M|^2>, the traces of the two scatter matrices (Fukunaga,
      "Introduction to Statistical Pattern Recognition", 1990, section 10.2, there inverted;
      Papyan, Han and Donoho 2020 measure "variability collapse" likewise);
    - silhouette: (b - a) / max(a, b), with a a pixel's mean distance to sampled pixels of its
      class and b that to those of the nearest other class (Rousseeuw 1987); mean over the pixels
      of a class, then over classes;
    - weight_cosine: cosine of mu_k - M and w_k - <w_j>, mean over classes; 1 is the "self-duality"
      of Papyan, Han and Donoho 2020. A common shift of all w_k changes no prediction;
    - anchor_cosine: the same with the semantic anchors. Without the centring it would be high for
      any features, since those after a ReLU share their sign with the anchors;
    - anchor_distance: |mu_k - m_k|, mean over classes; anchor_distance_relative: that divided by
      sqrt <|mu_k - M|^2>.

    Classes without a pixel in the split are left out; with fewer than two there is no measure.
    """
    found = _centred(analysis)
    if found is None:
        return {}
    present, mean, centred, scatter = found
    spread = float(np.mean(np.sum(centred**2, axis=1)))
    within = float(np.mean(scatter))
    values = {
        "ratio": within / spread if spread else np.nan,
        "within_variance": within,
        "between_distance": float(pdist(mean).mean()),
        "feature_norm": float(np.sqrt(np.mean(np.sum(mean**2, axis=1)))),
    }
    values |= {
        name: float(column[present].mean())
        for name, column in per_class(analysis).items()
        if name in ("silhouette", "weight_cosine", "anchor_cosine")
    }
    anchors = semantic_anchors(analysis)
    if anchors is not None:
        distance = float(np.linalg.norm(mean - anchors[present], axis=1).mean())
        values["anchor_distance"] = distance
        values["anchor_distance_relative"] = distance / np.sqrt(spread) if spread else np.nan
    return {f"compactness/{name}": value for name, value in values.items() if np.isfinite(value)}


def per_class(analysis: Analysis) -> dict[str, np.ndarray]:
    """Measures (K,) by name of each class; NaN for a class without a pixel in the split.

    relative_scatter is s_k / <|mu_j - M|^2> in the terms of `measures`, so that its mean over
    classes is the ratio; silhouette and the cosines are what their means are made of.
    """
    found = _centred(analysis)
    if found is None:
        return {}
    present, _, centred, scatter = found
    spread = np.mean(np.sum(centred**2, axis=1))
    columns = {"relative_scatter": scatter / (spread or np.nan)}
    silhouette = _silhouette(analysis, present)
    if silhouette is not None:
        columns["silhouette"] = silhouette
    for name, table in (("weight", _weight(analysis)), ("anchor", semantic_anchors(analysis))):
        if table is not None:
            columns[f"{name}_cosine"] = _cosine(centred, _centre(table[present]))
    result = {}
    for name, values in columns.items():
        result[name] = np.full(len(analysis.classes), np.nan)
        result[name][present] = values
    return result


def semantic_anchors(analysis: Analysis) -> np.ndarray | None:
    """(K, C) in float64; None where there are none, or the gate never opened for them."""
    anchors = analysis.anchors
    if anchors is None or len(anchors) != len(analysis.classes) or not anchors.any():
        return None
    return anchors.astype(np.float64)


def class_means(analysis: Analysis) -> tuple[np.ndarray, np.ndarray] | None:
    """Indices (P,) of the classes with a pixel, and their means (P, C); None for fewer than two."""
    if analysis.mean is None or analysis.pixels is None:
        return None
    present = np.flatnonzero(analysis.pixels > 0)
    if present.size < 2:
        return None
    return present, analysis.mean[present].astype(np.float64)


def _centred(
    analysis: Analysis,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """What `class_means` gives, those means centred, and the classes' scatter (P,)."""
    found = class_means(analysis)
    if found is None or analysis.scatter is None:
        return None
    present, mean = found
    return present, mean, _centre(mean), analysis.scatter[present]


def _weight(analysis: Analysis) -> np.ndarray | None:
    weight = analysis.weight
    if weight is None or len(weight) != len(analysis.classes):
        return None
    return weight.astype(np.float64)


def _centre(rows: np.ndarray) -> np.ndarray:
    return rows - rows.mean(axis=0)


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of each pair of rows; NaN where one is zero."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.einsum("kc,kc->k", a, b) / np.where(norms > 0, norms, np.nan)


def _silhouette(analysis: Analysis, present: np.ndarray) -> np.ndarray | None:
    """(P,) means over the sampled pixels of each class; the same pixels in every method's run."""
    sample = analysis.sample
    if not sample or not len(sample["class"]):
        return None
    # The first pixels of a class are a random sample too.
    rank = np.concatenate([np.arange(n) for n in np.bincount(sample["class"]) if n])
    chosen = rank < max(2, _SILHOUETTE_PIXELS // present.size)
    features, labels = sample["feature"][chosen].astype(np.float64), sample["class"][chosen]
    if not np.isfinite(features).all() or len(labels) <= present.size:
        return None
    values = silhouette_samples(features, labels)
    sums = np.bincount(labels, values, minlength=len(analysis.classes))
    counts = np.bincount(labels, minlength=len(analysis.classes))
    return (sums / np.where(counts, counts, np.nan))[present]
