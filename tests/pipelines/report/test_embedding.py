import numpy as np

from pipelines.evaluate import kept
from pipelines.evaluate.collector import Collector
from pipelines.report.embedding import POINTS, embed


def analysed(tmp_path, side, anchors=None):
    """Two classes far apart in 5 channels, of which class 2 of 3 has no pixel."""
    rng = np.random.default_rng(0)
    labels = np.arange(side * side).reshape(side, side) % 2
    features = rng.standard_normal((5, side, side)) + 30 * labels
    collector = Collector(["a", "b", "c"])
    collector.add("0", np.eye(3, dtype=int))
    collector.add_features(features.astype(np.float32), labels, (1, 1))
    state = {} if anchors is None else {"regularizer.semantic_anchors": anchors}
    collector.write(tmp_path / "analysis.npz", classifier={}, state=state, log={})
    return kept.read(tmp_path / "analysis.npz")


def test_what_is_apart_stays_apart_and_anchors_lie_with_their_class(tmp_path):
    anchors = np.zeros((3, 5), np.float32)
    anchors[1] = 30
    found = embed(analysed(tmp_path, 16, anchors))
    assert len(found.points) == len(found.labels) <= POINTS
    assert set(found.labels) == {0, 1}
    centres = np.stack([found.points[found.labels == label].mean(axis=0) for label in (0, 1)])
    nearest = np.linalg.norm(found.points[:, None] - centres, axis=2).argmin(axis=1)
    np.testing.assert_array_equal(nearest, found.labels)
    # Anchors that are zero never came to be.
    assert found.anchor_labels.tolist() == [1]
    assert np.linalg.norm(found.anchors[0] - centres, axis=1).argmin() == 1


def test_the_same_sample_gives_the_same_picture(tmp_path):
    found = analysed(tmp_path, 10)
    first, second = embed(found), embed(found)
    assert first.points.tobytes() == second.points.tobytes()


def test_too_little_gives_no_picture(tmp_path):
    assert embed(analysed(tmp_path, 3)) is None
