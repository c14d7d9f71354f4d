import numpy as np
import pytest

from pipelines.analyse.anchors import history, measures
from tests.pipelines.analyse.cases import analysis_of

NAN = np.nan
LOG = {
    "iteration": np.array([10, 20, 30, 40]),
    "regularizer.confidence": np.array([[0.5, 0.7], [0.9, 0.95], [0.7, 0.9], [0.9, 1.0]]),
    "regularizer.gate": np.array([[0.0], [1.0], [0.0], [1.0]]),
    "regularizer.lag": np.array([[NAN, NAN], [0.0, 0.0], [1.0, 3.0], [0.5, 0.5]]),
    "regularizer.norm": np.array([[0.0, 0.0], [2.0, 2.0], [2.0, 2.0], [1.0, 2.0]]),
}


def found(log):
    return history(analysis_of(np.ones((2, 2)), [0, 1], log=log))


def test_a_log_by_hand():
    table = found(LOG)
    assert table["iteration"].tolist() == [10, 20, 30, 40]
    assert table["confidence_min"].tolist() == [0.5, 0.9, 0.7, 0.9]
    assert table["confidence_mean"].tolist() == pytest.approx([0.6, 0.925, 0.8, 0.95])
    assert table["gate"].tolist() == [0, 1, 0, 1]
    np.testing.assert_allclose(table["lag"], [NAN, 0, 1, 0.375])
    assert measures(table) == pytest.approx(
        {
            "anchors/first_open": 20,
            "anchors/open_share": 50,
            "anchors/final_min_confidence": 0.9,
            "anchors/final_mean_confidence": 0.95,
            "anchors/final_lag": 0.375,
        }
    )


def test_a_gate_that_never_opens_has_no_first_opening():
    closed = LOG | {
        "regularizer.gate": np.zeros((4, 1)),
        "regularizer.lag": np.full((4, 2), NAN),
        "regularizer.norm": np.zeros((4, 2)),
    }
    values = measures(found(closed))
    assert values["anchors/open_share"] == 0
    assert not {"anchors/first_open", "anchors/final_lag"} & values.keys()


def test_a_run_without_anchors_has_no_history():
    assert found({}).empty
    assert measures(found({})) == {}
