import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.analyse import compactness
from pipelines.analyse.compactness import measures, per_class
from pipelines.report.sections.compactness import MEASURES
from tests.pipelines.analyse.cases import analysis_of, clusters, rotation

FREE = {name for name, measure in MEASURES.items() if measure.free}


def found(*args, **parts):
    return {
        name.removeprefix("compactness/"): value
        for name, value in measures(analysis_of(*args, **parts)).items()
    }


def test_two_classes_of_known_variance_and_distance():
    """Each class has four pixels at distance 1 from its mean; the means are 10 apart."""
    cross = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], float)
    features = np.concatenate([cross, np.add(cross, [10, 0])])
    values = found(features, [0] * 4 + [1] * 4)
    assert values["within_variance"] == pytest.approx(1)
    assert values["between_distance"] == pytest.approx(10)
    # Both means are 5 from their mean: 1 / 25.
    assert values["ratio"] == pytest.approx(1 / 25)
    assert values["feature_norm"] == pytest.approx(np.sqrt(50))


def test_the_silhouette_of_two_pairs_by_hand():
    """a = 1 and b = (10 + 11) / 2 or (9 + 10) / 2."""
    values = found([[0.0], [1.0], [10.0], [11.0]], [0, 0, 1, 1])
    assert values["silhouette"] == pytest.approx(1 - (1 / 10.5 + 1 / 9.5) / 2)


def test_a_large_gaussian_sample_has_the_variance_that_it_was_drawn_with():
    rng = np.random.default_rng(0)
    features = 2 * rng.standard_normal((20_000, 3))
    features[10_000:, 0] += 12
    values = found(features, np.repeat([0, 1], 10_000))
    assert values["within_variance"] == pytest.approx(3 * 4, rel=0.02)
    assert values["between_distance"] == pytest.approx(12, rel=0.01)


def test_alignment_with_classifier_and_anchors():
    """The centred means of three classes are the axes' own; so are a classifier's and anchors."""
    features = np.repeat(np.eye(3), 2, axis=0) + 5
    labels = [0, 0, 1, 1, 2, 2]
    own = found(features, labels, weight=3 * np.eye(3) - 1, anchors=features[::2])
    assert own["weight_cosine"] == pytest.approx(1)
    assert own["anchor_cosine"] == pytest.approx(1)
    assert own["anchor_distance"] == pytest.approx(0)
    turned = found(features, labels, weight=-np.eye(3), anchors=np.add(features[::2], [3, 0, 4]))
    assert turned["weight_cosine"] == pytest.approx(-1)
    assert turned["anchor_cosine"] == pytest.approx(1)
    assert turned["anchor_distance"] == pytest.approx(5)
    assert turned["anchor_distance_relative"] == pytest.approx(5 / np.sqrt(2 / 3))


@given(seed=st.integers(0, 99), scale=st.floats(1e-3, 1e3))
def test_what_is_called_free_of_scale_is(seed, scale):
    """Rotation and scaling change it in nothing; the others scale as lengths or variances do."""
    rng = np.random.default_rng(seed)
    features, labels = clusters(rng)
    tables = {"weight": rng.standard_normal((4, 6)), "anchors": rng.standard_normal((4, 6))}
    turn = rotation(rng, 6)
    before = measures(analysis_of(features, labels, **tables))
    moved = {name: scale * table @ turn for name, table in tables.items()}
    after = measures(analysis_of(scale * features @ turn, labels, **moved))
    assert before.keys() >= FREE
    for name, value in before.items():
        power = 0 if name in FREE else 2 if name.endswith("variance") else 1
        assert after[name] == pytest.approx(scale**power * value, rel=1e-6, abs=1e-9), name


def test_the_ratio_is_the_mean_over_classes():
    features, labels = clusters(np.random.default_rng(1))
    whole = analysis_of(features, labels)
    ratio = measures(whole)["compactness/ratio"]
    assert per_class(whole)["relative_scatter"].mean() == pytest.approx(ratio)


def test_a_class_without_a_pixel_changes_nothing():
    features, labels = clusters(np.random.default_rng(2))
    weight = np.random.default_rng(3).standard_normal((5, 6))
    less = measures(analysis_of(features, labels, weight=weight[:4]))
    more = analysis_of(features, labels, classes=5, weight=weight)
    assert measures(more) == pytest.approx(less)
    assert np.isnan(per_class(more)["relative_scatter"][4])


def test_one_class_has_no_measures():
    assert measures(analysis_of(np.ones((3, 2)), [0, 0, 0])) == {}


def test_anchors_that_never_opened_the_gate_are_none():
    features, labels = clusters(np.random.default_rng(2))
    values = found(features, labels, anchors=np.zeros((4, 6)))
    assert not any(name.startswith("anchor") for name in values)


def test_many_pixels_are_thinned_alike_in_all_classes(monkeypatch):
    features, labels = clusters(np.random.default_rng(4), pixels=40)
    few = np.concatenate([features[labels == label][:10] for label in range(4)])
    monkeypatch.setattr(compactness, "_SILHOUETTE_PIXELS", 40)
    thinned = found(features, labels)["silhouette"]
    assert thinned == pytest.approx(found(few, np.repeat(np.arange(4), 10))["silhouette"])
