import numpy as np
import pytest

from pipelines.evaluate import feature_statistics
from pipelines.evaluate.feature_statistics import FeatureStatistics


def split(images=12, channels=3, side=9, offset=0.0):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((images, channels, side, side)) + offset
    return features, rng.choice([0, 1, 3, 255], (images, side, side), p=[0.7, 0.2, 0.02, 0.08])


def gathered(features, labels, size=5, seed=0):
    statistics = FeatureStatistics(4, features.shape[1], size, seed)
    for image, (one, truth) in enumerate(zip(features, labels, strict=True)):
        statistics.add(image, one, truth)
    return statistics


def sample(statistics, label):
    """What is drawn of one class."""
    drawn = statistics.sample
    return {name: values[drawn["class"] == label] for name, values in drawn.items()}


@pytest.mark.parametrize("block", [7, 8192])
def test_moments_are_exact_far_from_zero(monkeypatch, block):
    """With sums of squares instead of distances nothing would be left of the scatter."""
    monkeypatch.setattr(feature_statistics, "_BLOCK", block)
    features, labels = split(offset=1e8)
    found = gathered(features, labels)
    for label in (0, 1, 3):
        rows = np.moveaxis(features, 1, 3)[labels == label]
        assert found.pixels[label] == len(rows)
        np.testing.assert_allclose(found.mean[label], rows.mean(axis=0), rtol=1e-14)
        expected = ((rows - rows.mean(axis=0)) ** 2).sum()
        np.testing.assert_allclose(found.squares[label], expected, rtol=1e-6)
    assert found.pixels[2] == 0 and found.pixels.sum() == (labels != 255).sum()


def test_the_sample_is_drawn_from_all_images_and_places_alike():
    features, labels = split(images=30)
    drawn = [sample(gathered(features, labels, size=8, seed=seed), 1) for seed in range(60)]
    images = np.concatenate([part["image"] for part in drawn])
    rows = np.concatenate([part["position"][:, 0] for part in drawn])
    assert len(images) == 480
    # A standard deviation of the mean is 0.4 images and 0.12 rows.
    assert abs(images.mean() - 14.5) < 1.6 and abs(rows.mean() - 4) < 0.5


def test_a_smaller_sample_is_the_beginning_of_a_larger_one():
    features, labels = split()
    for label in (0, 1, 3):
        small, large = (sample(gathered(features, labels, size), label) for size in (3, 9))
        assert len(small["key"]) == 3
        for name, values in small.items():
            np.testing.assert_array_equal(values, large[name][:3])


def test_no_pixel_is_drawn_twice_and_none_that_is_ignored():
    features, labels = split()
    found = gathered(features, labels, size=10_000)
    for label in range(4):
        part = sample(found, label)
        places = np.column_stack([part["image"], part["position"]])
        assert len(np.unique(places, axis=0)) == len(places) == (labels == label).sum()
        assert (labels[tuple(places.T)] == label).all()


def test_the_sample_is_of_all_pixels_however_often_it_was_joined():
    """Images are joined one by one, and what cannot be among the smallest keys is let go of."""
    features, labels = split(images=40)
    found = gathered(features, labels, size=5)
    assert sum(len(drawn["key"]) for drawn in found._drawn) <= 2 * 4 * 5
    assert len(found._drawn) < 40 and np.isfinite(found._limits[[0, 1, 3]]).all()
    keys = [np.random.default_rng([0, image]).random(81) for image in range(40)]
    for label in (0, 1, 3):
        of_label = np.concatenate(
            [key[truth.ravel() == label] for key, truth in zip(keys, labels, strict=True)]
        )
        part = sample(found, label)
        np.testing.assert_array_equal(part["key"], np.sort(of_label)[:5])
        places = part["image"], slice(None), part["position"][:, 0], part["position"][:, 1]
        np.testing.assert_array_equal(part["feature"], features[places].astype(np.float16))
