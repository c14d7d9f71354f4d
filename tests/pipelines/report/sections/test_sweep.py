"""The score over a swept setting: a line for one key, rows for several."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipelines.compare.comparison import Comparison
from pipelines.rendering import style
from pipelines.rendering.parts import Drawing, Table
from pipelines.report.material import Material
from pipelines.report.sections import sweep


def material(fabricate, grid, **changes) -> Material:
    methods = {
        "baseline": {"label": "Baseline"},
        "sar": {"label": "SAR", "plugin": "nowhere:apply", "grid": grid},
    }
    study = fabricate(kind="sensitivity", methods=methods, **changes)
    comparison = Comparison.of(study, study.runs)
    return Material(study, study.runs, comparison, None, {}, None, {})


def parts(found):
    with style.drawing():
        return sweep.section(found).parts


def test_one_key_is_a_line_with_the_intervals_of_its_means(fabricate):
    found = material(fabricate, {"pull_weight": [1, 0.01, 0.1]})
    _, drawing, table = parts(found)
    assert isinstance(drawing, Drawing) and isinstance(table, Table)
    assert list(table.data["pull_weight"]) == ["1", "0.01", "0.1"]
    runs = found.comparison.runs
    runs = runs[(runs["metric"] == "mIoU") & (runs["method"] == "sar-pull_weight-1e-2")]
    row = table.data.set_index("method").loc["sar-pull_weight-1e-2"]
    low, high = stats.t.interval(0.95, 2, runs["value"].mean(), stats.sem(runs["value"]))
    assert (row["low"], row["high"]) == pytest.approx((low, high))
    [axes] = drawing.figure.axes
    line, *_ = axes.lines
    assert axes.get_xscale() == "log"
    assert list(line.get_xdata()) == [0.01, 0.1, 1]
    assert line.get_ydata()[0] == pytest.approx(row["mIoU_mean"])
    [segments] = [each.get_segments() for each in axes.collections]
    assert segments[0][:, 1] == pytest.approx([low, high])
    everything = found.comparison.runs
    base = everything[(everything["metric"] == "mIoU") & (everything["method"] == "baseline")]
    assert any(np.allclose(each.get_ydata(), base["value"].mean()) for each in axes.lines)


def test_several_keys_are_rows(fabricate):
    found = material(fabricate, {"a": [1, 2], "training.optimizer.lr": [0.1, 0.2]})
    _, table = parts(found)
    assert isinstance(table, Table)
    assert [*zip(table.shown["a"], table.shown["training.optimizer.lr"], strict=True)] == [
        ("1", "0.1"),
        ("1", "0.2"),
        ("2", "0.1"),
        ("2", "0.2"),
    ]


def test_words_stand_in_the_order_of_the_grid(fabricate):
    found = material(fabricate, {"target": ["own", "common", "none"]}, seeds=[0])
    _, drawing, table = parts(found)
    [axes] = drawing.figure.axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["own", "common", "none"]
    assert list(axes.lines[0].get_xdata()) == [0, 1, 2]
    assert pd.isna(table.data["low"]).all(), "one seed has no interval"


def test_a_baseline_that_is_a_point_is_no_line_of_its_own(fabricate):
    found = material(fabricate, {"a": [1, 2]}, baseline="sar-a-1")
    _, drawing, _ = parts(found)
    assert len(drawing.figure.axes[0].get_lines()) == 1 + 2, "the curve and its caps"
    assert "horizontal line" not in drawing.caption


def test_a_study_without_a_grid_has_no_such_section(fabricate):
    study = fabricate()
    comparison = Comparison.of(study, study.runs)
    assert sweep.section(Material(study, study.runs, comparison, None, {}, None, {})) is None
