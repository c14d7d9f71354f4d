import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import procrustes

from pipelines.analyse.drift import (
    Shape,
    compared,
    distances,
    gram_distance,
    procrustes_disparity,
    pseudo_values,
)
from tests.pipelines.analyse.cases import analysis_of, clusters, rotation


def of_shapes(distance):
    """`distance` as a function of two sets of class means."""
    return lambda a, b: distance(Shape.of(a), Shape.of(b))


DISTANCES = (of_shapes(gram_distance), of_shapes(procrustes_disparity))
seeds = st.integers(0, 99)


@pytest.mark.parametrize("distance", DISTANCES)
@given(seed=seeds, scale=st.floats(1e-2, 1e2))
def test_a_turned_moved_and_scaled_copy_has_no_distance(distance, seed, scale):
    rng = np.random.default_rng(seed)
    means = rng.standard_normal((5, 8))
    copy = scale * means @ rotation(rng, 8) + rng.standard_normal(8)
    assert distance(means, copy) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("distance", DISTANCES)
@given(seed=seeds)
def test_distances_are_symmetric_and_not_changed_by_the_basis(distance, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, 5, 8))
    expected = distance(a, b)
    assert 0 < expected <= 1
    assert distance(b, a) == pytest.approx(expected)
    assert distance(3 * a @ rotation(rng, 8), b @ rotation(rng, 8) + 1) == pytest.approx(expected)


def test_gram_distance_by_hand():
    """Three points on a line, equally spaced and not: centred (-1, 0, 1) and (-4, -1, 5) / 3."""
    a, b = np.array([[0.0], [1], [2]]), np.array([[0.0], [1], [3]])
    cosine = (4 / 3 + 5 / 3) / np.sqrt(2 * (16 + 1 + 25) / 9)
    assert of_shapes(gram_distance)(a, b) == pytest.approx(1 - cosine**2)


def test_fewer_dimensions_give_scipys_disparity():
    a, b = np.random.default_rng(0).standard_normal((2, 4, 9))
    assert of_shapes(procrustes_disparity)(a, b) == pytest.approx(procrustes(a, b)[2])
    wide = np.pad(b, ((0, 0), (0, 20)))
    assert of_shapes(procrustes_disparity)(a, wide) == pytest.approx(procrustes(a, b)[2])


def test_means_that_are_all_equal_have_no_shape():
    assert Shape.of(np.full((3, 2), 0.1)) is None
    features, labels = clusters(np.random.default_rng(0))
    alike = np.ones_like(features)
    runs = {seed: analysis_of(alike if seed else features, labels) for seed in range(3)}
    assert distances(runs).empty


def test_equal_runs_do_not_drift():
    features, labels = clusters(np.random.default_rng(0))
    found = distances({seed: analysis_of(features, labels) for seed in range(3)})
    assert len(found) == 3 * 2
    np.testing.assert_allclose(found["value"], 0, atol=1e-12)


def frame(method, matrix):
    rows = [
        ("x", "m", method, a, b, "gram", matrix[a][b])
        for a in range(len(matrix))
        for b in range(a + 1, len(matrix))
    ]
    names = ["dataset", "model", "method", "seed_a", "seed_b", "measure", "value"]
    return pd.DataFrame(rows, columns=names)


@given(seed=seeds, n=st.integers(3, 8))
def test_pseudo_values_are_those_of_the_jackknife(seed, n):
    values = np.random.default_rng(seed).random((n, n))
    matrix = (values + values.T) * (1 - np.eye(n))

    def mean(kept):
        return matrix[np.ix_(kept, kept)][np.triu_indices(len(kept), 1)].mean()

    everyone = list(range(n))
    expected = [
        n * mean(everyone) - (n - 1) * mean([i for i in everyone if i != left]) for left in everyone
    ] if n > 3 else None  # fmt: skip
    found = pseudo_values(matrix)
    if expected is not None:
        np.testing.assert_allclose(found, expected)
    assert found.mean() == pytest.approx(mean(everyone))


def test_methods_are_compared_on_the_seeds_that_they_share():
    rng = np.random.default_rng(0)
    base = rng.random((5, 5))
    drift = pd.concat([frame("base", base), frame("sar", base[:4, :4] / 2)])
    found = compared(drift, "base").set_index("method")
    row = found.loc["sar"]
    assert found.loc["base", "seeds"] == 5 and row["seeds"] == 4
    expected = base[:4, :4][np.triu_indices(4, 1)].mean()
    assert row["baseline_mean"] == pytest.approx(expected)
    assert row["difference"] == pytest.approx(-expected / 2)
    assert row["low"] < row["difference"] < row["high"]
    assert np.isnan(found.loc["base", "difference"])


def test_equal_methods_have_a_difference_of_zero():
    base = np.random.default_rng(1).random((4, 4))
    found = compared(pd.concat([frame("base", base), frame("sar", base)]), "base")
    row = found.set_index("method").loc["sar"]
    assert (row["difference"], row["low"], row["high"]) == (0, 0, 0)


def test_two_seeds_have_a_distance_and_no_interval():
    base = np.random.default_rng(1).random((2, 2))
    row = compared(pd.concat([frame("base", base), frame("sar", base)]), "base").iloc[1]
    assert row["difference"] == 0 and np.isnan(row["low"])
