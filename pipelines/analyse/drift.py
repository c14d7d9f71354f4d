"""Do class means of different seeds agree more with a method than without?

The paper's motivation is that prototypes, being means of features, drift. What is kept of a run are
the class means after training, and two runs have features in bases of their own: the raw distance
of their means says nothing. Measured is the shape that the K class means form, which no rotation,
shift or scale of the features changes, and how far it differs between the seeds of a method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from pipelines.analyse.compactness import class_means
from pipelines.base.frames import KEYS
from pipelines.compare.inference import sign_flip_p, t_interval
from pipelines.evaluate.kept import Analysis

MIN_SEEDS = 3


@dataclass(frozen=True)
class Shape:
    """What no shift, rotation or scale of the features changes of P class means."""

    gram: np.ndarray
    """(P, P): products of the centred means."""
    norm: float
    """Frobenius norm of `gram`."""
    points: np.ndarray
    """(P, P): the centred means, turned into the few dimensions that so few points span; norm 1."""

    @classmethod
    def of(cls, means: np.ndarray) -> Shape | None:
        """That of class means (P, C); None where all are equal."""
        if not np.ptp(means, axis=0).any():
            return None
        centred = means - means.mean(axis=0)
        left, lengths, _ = np.linalg.svd(centred, full_matrices=False)
        points = np.pad(left * lengths, ((0, 0), (0, len(means) - len(lengths))))
        gram = centred @ centred.T
        return cls(gram, float(np.linalg.norm(gram)), points / np.linalg.norm(points))


def gram_distance(a: Shape, b: Shape) -> float:
    """1 - linear CKA of two sets of class means, in [0, 1].

    CKA is the cosine of the two Gram matrices of the centred means (Kornblith et al. 2019; as the
    similarity of dissimilarity matrices, Kriegeskorte et al. 2008). A Gram matrix holds all lengths
    and angles between classes, and no rotation of the features changes it.
    """
    return float(np.clip(1 - np.sum(a.gram * b.gram) / (a.norm * b.norm), 0, 1))


def procrustes_disparity(a: Shape, b: Shape) -> float:
    """What is left of the squared distance of two sets of class means, in [0, 1].

    After both were centred and scaled to norm 1, and one was turned and scaled upon the other as
    well as it goes (Gower 1975; as `scipy.spatial.procrustes` has it).
    """
    fit = np.linalg.svd(a.points.T @ b.points, compute_uv=False).sum()
    return float(np.clip(1 - fit**2, 0, 1))


def distances(analyses: Mapping[int, Analysis]) -> pd.DataFrame:
    """Distances of all pairs of seeds of one method.

    Args:
        analyses: by seed; those without class means, or whose means are all equal, are left
            out.

    Returns:
        Columns seed_a, seed_b, measure, value.
    """
    means = {seed: found for seed, a in analyses.items() if (found := class_means(a)) is not None}
    shapes = [(seed, classes, Shape.of(each)) for seed, (classes, each) in means.items()]
    rows = []
    for (seed_a, classes_a, a), (seed_b, classes_b, b) in combinations(shapes, 2):
        if a is None or b is None or not np.array_equal(classes_a, classes_b):
            continue
        rows.append((seed_a, seed_b, "gram", gram_distance(a, b)))
        rows.append((seed_a, seed_b, "procrustes", procrustes_disparity(a, b)))
    return pd.DataFrame(rows, columns=["seed_a", "seed_b", "measure", "value"])


def compared(drift: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Mean distance of the seeds of each method, and that of the baseline on the same seeds.

    Pairs of seeds share seeds and are not independent. The mean over pairs is a U-statistic, and
    its jackknife pseudo-values, one a seed, are nearly so (Arvesen 1969): interval and test are the
    t interval and the sign-flip test of the pseudo-values of the difference, whose mean is the
    difference itself. The test is no more exact than they are independent.

    Args:
        drift: columns `KEYS` and those of `distances`.

    Returns:
        Columns `KEYS`, measure, seeds, mean, baseline_mean, difference, low, high, p. The last
        five are NaN for the baseline itself, and interval and p are for fewer than three seeds.
    """
    rows = []
    for (dataset, model), here in drift.groupby(["dataset", "model"], sort=False):
        for (method, measure), found in here.groupby(["method", "measure"], sort=False):
            other = here[(here["method"] == baseline) & (here["measure"] == measure)]
            row = [dataset, model, method, measure]
            matrix, reference = _matrix(found), _matrix(other)
            seeds = matrix.index.intersection(reference.index)
            if method == baseline or len(seeds) < 2:
                rows.append([*row, len(matrix), found["value"].mean(), *[math.nan] * 5])
                continue
            matrix, reference = (m.loc[seeds, seeds].to_numpy() for m in (matrix, reference))
            pseudo = pseudo_values(matrix - reference)
            mean, base = _mean_of_pairs(matrix), _mean_of_pairs(reference)
            inferred = (*t_interval(pseudo), sign_flip_p(pseudo))
            rows.append([*row, len(seeds), mean, base, mean - base, *inferred])
    columns = ["measure", "seeds", "mean", "baseline_mean", "difference", "low", "high", "p"]
    return pd.DataFrame(rows, columns=[*KEYS, *columns])


def pseudo_values(matrix: np.ndarray) -> np.ndarray:
    """Jackknife pseudo-values (n,) of the mean over pairs in a symmetric (n, n); none for n < 3."""
    n = len(matrix)
    if n < MIN_SEEDS:
        return np.zeros(0)
    of_seed = (matrix.sum(axis=1) - np.diag(matrix)) / (n - 1)
    mean = _mean_of_pairs(matrix)
    left_out = (n * mean - 2 * of_seed) / (n - 2)
    return n * mean - (n - 1) * left_out


def _matrix(pairs: pd.DataFrame) -> pd.DataFrame:
    """Seeds by seeds, symmetric, with a diagonal of zero."""
    both = pd.concat([pairs, pairs.rename(columns={"seed_a": "seed_b", "seed_b": "seed_a"})])
    return both.pivot(index="seed_a", columns="seed_b", values="value").fillna(0.0)


def _mean_of_pairs(matrix: np.ndarray) -> float:
    return float(matrix[np.triu_indices(len(matrix), 1)].mean())
