"""The names of scores: one list, which every table, claim and page reads."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from pipelines.base import metric_names
from pipelines.base.artifacts import canonical_json, read_json
from pipelines.base.errors import PipelineError
from pipelines.base.metric_names import METRICS, Metric, headline
from pipelines.compare.comparison import Comparison
from pipelines.compare.stage import compare
from pipelines.report.material import labels
from pipelines.report.sections.comparison import comparison_table, shown_comparison, winners
from pipelines.study import Study
from pipelines.study.reference import Result
from pipelines.track.study_view import study_view
from tests.pipelines.receipts import vouch

NEW = Metric("mIoU/boundary", "boundary", ("boundary", "mIoU"))
CLAIM = {"metric": NEW.name, "method": "sar", "direction": "higher", "margin": 1.0}
SEEDS = [0, 1, 2, 3, 4, 5]


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(metric_names, "METRICS", (*METRICS, NEW))


def counted(study: Study, **of_method: float) -> None:
    """What a counter would add to metrics.json of each run of these methods."""
    for run in study.runs:
        if run.method in of_method:
            path = run.output("evaluate", "metrics.json")
            added = {"boundary": {"mIoU": of_method[run.method] + run.seed / 10}}
            path.write_text(canonical_json(read_json(path) | added))
            vouch(path)


def table_of(study: Study):
    found = Comparison.read(study)
    shown = labels(study, control=False)
    return found, comparison_table(found.summary, found.paired, shown)


def test_a_metric_that_is_counted_and_registered_is_everywhere(fabricate, registered):
    study = fabricate(seeds=SEEDS, claims={"edges": CLAIM})
    counted(study, baseline=40.0, sar=44.0)
    run = study.runs[0]
    assert headline(read_json(run.output("evaluate", "metrics.json")))[NEW.name] == 40.0
    compare(study)
    found, table = table_of(study)
    mean = found.summary[found.summary["metric"] == NEW.name].set_index("method")["mean"]
    assert mean.to_dict() == pytest.approx({"baseline": 40.25, "sar": 44.25})
    order = list(dict.fromkeys(found.runs["metric"]))
    assert order.index("mIoU/tail") < order.index(NEW.name) < order.index("IoU/ground")
    assert list(table["boundary_mean"]) == pytest.approx([40.25, 44.25])
    columns = list(shown_comparison(table).columns)
    assert ("tail", "boundary") in pairwise(columns)
    [claim] = found.claims.to_dict("records")
    assert claim["metric"] == NEW.name and claim["mean_difference"] == pytest.approx(4.0)
    assert claim["verdict"] == "reproduced"
    assert (1, "boundary") in winners(table, found.claims)
    points = {point.key for point in study_view(study).points}
    assert f"summary/shapes/tiny_net/sar/{NEW.name}/mean" in points


def test_results_from_before_a_metric_have_no_column_of_it(fabricate, registered):
    study = fabricate()
    compare(study)
    found, table = table_of(study)
    assert NEW.name not in set(found.summary["metric"])
    assert "boundary" not in shown_comparison(table)
    assert not (set(table.columns) & {"boundary_mean", "multi-scale_mean"})


def test_what_is_always_shown_has_a_column_without_a_value(fabricate):
    study = fabricate()
    for run in study.runs:
        path = run.output("evaluate", "metrics.json")
        metrics = json.loads(path.read_text())
        metrics["groups"]["tail"]["mIoU"] = None
        path.write_text(canonical_json(metrics))
        vouch(path)
    compare(study)
    _, table = table_of(study)
    assert table["tail_mean"].isna().all() and "tail" in shown_comparison(table)


def test_what_is_not_registered_can_neither_be_claimed_nor_published(fabricate):
    for name in (NEW.name, "IoU/", "x mIoU", "mIoU\n"):
        with pytest.raises(PipelineError, match=r"claims.edges.metric: .*mIoU/multi-scale"):
            fabricate(claims={"edges": CLAIM | {"metric": name}})
        with pytest.raises(ValueError, match="match pattern"):
            Result(source="s", label="l", dataset="d", model="m", metric=name, value=1.0)


def test_a_claim_about_a_metric_that_evaluation_has_to_be_asked_for(fabricate, monkeypatch):
    asked = NEW._replace(evaluation_key="multi_scale")
    monkeypatch.setattr(metric_names, "METRICS", (*METRICS, asked))
    with pytest.raises(PipelineError, match=r"no mIoU/boundary; expected evaluation.multi_scale"):
        fabricate(claims={"edges": CLAIM})


def test_a_subset_cannot_have_the_name_of_a_metric(registered):
    from pipelines.study.cards import DataCard
    from tests.pipelines.conftest import _data_card

    with pytest.raises(ValueError, match="mIoU/boundary is another score"):
        DataCard.model_validate(
            _data_card() | {"subsets": {"boundary": {"split": "test", "images": "*"}}}
        )


def test_names_and_headings_are_unique():
    for field in ("name", "heading", "place"):
        values = [getattr(metric, field) for metric in METRICS]
        assert len(set(values)) == len(values)
