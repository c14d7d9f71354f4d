import json

import numpy as np
import pandas as pd
import pytest

from pipelines.base import metric_names
from pipelines.base.artifacts import canonical_json
from pipelines.base.errors import PipelineError
from pipelines.base.metric_names import MULTI_SCALE
from pipelines.compare import comparison
from pipelines.compare import stage as compare
from pipelines.compare.__main__ import main as compare_main
from pipelines.compare.comparison import Comparison, flat_scores

FILES = (
    *("runs.csv", "summary.csv", "paired.csv", "claims.csv", "curves.csv", "confusion.csv"),
    "receipt.json",
)
CLAIMS = {
    "a": {"metric": "mIoU", "method": "sar", "direction": "higher", "margin": 0.5},
    "b": {"metric": "IoU/gone", "method": "sar", "direction": "higher", "margin": 0.0},
}


def test_runs_csv_holds_every_score_of_every_run(fabricate):
    study = fabricate()
    compare.compare(study)
    runs = Comparison.read(study).runs
    for run in study.runs:
        metrics = json.loads(run.output("evaluate", "metrics.json").read_text())
        rows = runs[(runs["method"] == run.method) & (runs["seed"] == run.seed)]
        written = dict(zip(rows["metric"], rows["value"], strict=True))
        assert written == pytest.approx(flat_scores(metrics), rel=1e-9)
        assert list(written)[:6] == [name for name in metric_names.names() if name != MULTI_SCALE]
        assert list(written)[6:] == ["IoU/ground", "IoU/9", "IoU/truth", "IoU/null"]


def test_summary_and_pairs_agree_with_numpy(fabricate):
    study = fabricate()
    compare.compare(study)
    tables = Comparison.read(study)
    chosen = tables.runs[tables.runs["metric"] == "mIoU"].pivot(
        index="seed", columns="method", values="value"
    )
    summary = tables.summary[tables.summary["metric"] == "mIoU"].set_index("method")
    assert summary.loc["sar", "mean"] == pytest.approx(chosen["sar"].mean(), rel=1e-9)
    assert summary.loc["sar", "std"] == pytest.approx(np.std(chosen["sar"], ddof=1), rel=1e-8)
    paired = tables.paired[tables.paired["metric"] == "mIoU"].set_index("method")
    assert paired["n"].to_dict() == {"sar": 3, "longer": 2}
    difference = chosen["sar"] - chosen["baseline"]
    assert paired.loc["sar", "mean_difference"] == pytest.approx(difference.mean(), rel=1e-8)


@pytest.mark.parametrize("length", [1, 200, 201, 1600])
def test_long_curves_are_thinned_metric_by_metric_and_keep_both_ends(length):
    points = pd.concat(
        pd.DataFrame({"iteration": np.arange(1, n + 1), "metric": name, "value": 0.0})
        for name, n in (("loss", length), ("mIoU", 5))
    )
    thinned = comparison._thinned(points).groupby("metric")["iteration"].apply(list)
    assert thinned["mIoU"] == [1, 2, 3, 4, 5]
    assert thinned["loss"][0] == 1 and thinned["loss"][-1] == length
    most = comparison.CURVE_POINTS
    assert (
        len(thinned["loss"]) == length
        if length <= most
        else most <= len(thinned["loss"]) <= most + 1
    )
    gaps = np.diff(thinned["loss"])
    assert (gaps > 0).all() and (gaps <= np.ceil(length / most)).all()


def test_curves_are_aggregated_over_seeds_and_blanks_left_out(fabricate):
    study = fabricate()
    compare.compare(study)
    curves = Comparison.read(study).curves
    baseline = curves[curves["method"] == "baseline"]
    assert (baseline["n"] == 3).all()
    assert baseline.loc[baseline["metric"] == "mIoU", "iteration"].tolist() == [5, 10, 15, 20]
    losses = [
        pd.read_csv(run.output("train", "curves.csv"))["loss"][0]
        for run in study.runs
        if run.method == "baseline"
    ]
    first = baseline[(baseline["metric"] == "loss") & (baseline["iteration"] == 1)].iloc[0]
    assert first["mean"] == pytest.approx(np.mean(losses), rel=1e-9)
    assert first["std"] == pytest.approx(np.std(losses, ddof=1), rel=1e-8)


def test_one_seed_leaves_the_deviation_blank(fabricate):
    study = fabricate(seeds=[4], methods={"baseline": {"label": "Baseline"}})
    compare.compare(study)
    lines = study.output("compare", "summary.csv").read_text().splitlines()
    assert lines[0] == "dataset,model,method,metric,n,mean,std"
    assert all(line.endswith(",") and ",1," in line for line in lines[1:])
    assert Comparison.read(study).paired.empty


def test_a_second_time_gives_the_same_bytes(fabricate):
    study = fabricate(claims=CLAIMS)
    compare.compare(study)
    first = {name: study.output("compare", name).read_bytes() for name in FILES}
    compare.compare(study)
    assert {name: study.output("compare", name).read_bytes() for name in FILES} == first
    assert all(b"\r" not in content for content in first.values())


def test_reading_back_loses_nothing(fabricate):
    study = fabricate(claims=CLAIMS)
    compare.compare(study)
    before = Comparison.of(study, study.runs)
    after = Comparison.read(study)
    for name in ("runs", "summary", "paired", "claims", "curves"):
        pd.testing.assert_frame_equal(getattr(after, name), getattr(before, name), rtol=1e-9)


def test_all_missing_runs_are_named_with_the_way_to_make_them(fabricate, capsys):
    missing = ("shapes/tiny_net/sar/seed1", "shapes/tiny_net/baseline/seed2")
    fabricate(skip=missing)
    assert compare_main(["--study", "mini"]) == 2
    error = capsys.readouterr().err
    assert all(name in error for name in missing) and "shapes/tiny_net/sar/seed0" not in error
    assert "python -m pipelines.train --study mini --run shapes/tiny_net/sar/seed1" in error
    assert "--partial" in error


def test_a_run_made_with_other_parameters_is_missing(fabricate):
    study = fabricate()
    receipt = study.runs[0].output("train", "receipt.json")
    receipt.write_text(canonical_json(json.loads(receipt.read_text()) | {"parameters": "old"}))
    with pytest.raises(PipelineError, match=study.runs[0].name):
        compare.compare(study)


def test_what_a_split_cannot_measure_is_left_out():
    metrics = {
        "mIoU": 50.0, "mAcc": 60.0, "aAcc": 70.0, "IoU": {"a": 50.0, "b": None},
        "groups": {"head": {"mIoU": 50.0}, "tail": {"mIoU": None}},
    }  # fmt: skip
    assert set(flat_scores(metrics)) == {"mIoU", "mAcc", "aAcc", "mIoU/head", "IoU/a"}


def test_the_shares_of_a_class_add_up_and_an_absent_class_has_none(fabricate):
    study = fabricate()
    compare.compare(study)
    shares = Comparison.read(study).confusion
    assert set(shares["truth"]) == {"ground", "9", "truth", "null"}
    sums = shares.groupby(["method", "truth"])["mean"].sum()
    np.testing.assert_allclose(sums, 100)
