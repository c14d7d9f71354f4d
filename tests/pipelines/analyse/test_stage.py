import re

import numpy as np
import pandas as pd
import pytest

from pipelines.analyse import stage as analyse
from pipelines.analyse.analyses import Analyses
from pipelines.base.artifacts import read_json
from pipelines.base.errors import PipelineError
from pipelines.evaluate.collector import Collector
from pipelines.rendering import style
from pipelines.rendering.parts import Drawing, Table, Text
from pipelines.report.findings import findings
from pipelines.study import STUDY_STAGES
from tests.pipelines.conftest import CLASSES
from tests.pipelines.receipts import vouch

SEEDS = [0, 1, 2]
TITLES = [
    "Compactness and separability", "The long tail", "Prototype drift", "Anchors over time"
]  # fmt: skip


def keep(run, shift=1.0, seed=None, anchors=False) -> None:
    """Replace what evaluate kept: classes `shift` apart, in noise that is drawn from `seed`."""
    rng = np.random.default_rng(run.seed if seed is None else seed)
    collector = Collector(CLASSES)
    labels = np.repeat(np.arange(4), 25).reshape(10, 10)
    collector.add("a", np.diag([25, 25, 25, 25, 0]))
    features = rng.standard_normal((6, 10, 10))
    features[:4] += shift * (labels == np.arange(4)[:, None, None])
    collector.add_features(features, labels, (1, 1))
    state, log = {}, {}
    if anchors:
        state = {"regularizer.semantic_anchors": np.eye(5, 6, dtype=np.float32)}
        ones = np.ones((3, 5), np.float32)
        log = {"iteration": np.array([10, 20, 30]), "regularizer.gate": np.array([[0.0], [1], [1]])}
        log |= {f"regularizer.{name}": ones for name in ("confidence", "lag", "norm")}
    weight = np.eye(5, 6, dtype=np.float32)
    path = run.output("evaluate", "analysis.npz")
    collector.write(path, classifier={"weight": weight}, state=state, log=log)
    vouch(path)


@pytest.fixture
def study(fabricate):
    """SAR's classes are three times as far apart in the same noise; only SAR has anchors."""
    return apart(fabricate())


def apart(study):
    for run in study.runs:
        sar = run.method == "sar"
        keep(run, shift=9.0 if sar else 3.0, anchors=sar)
    return study


def words(section) -> str:
    return " ".join(part.markdown for part in section.parts if isinstance(part, Text))


def test_the_stage_writes_its_tables_with_a_receipt(study):
    analyse.analyse(study)
    folder = study.folder("analyse")
    names = {path.name for path in folder.iterdir()}
    assert names == {*STUDY_STAGES["analyse"], "receipt.json", "runtime.json"}
    receipt = read_json(folder / "receipt.json")
    assert receipt["outputs"].keys() == set(STUDY_STAGES["analyse"])
    assert {path.rpartition("/")[2] for path in receipt["inputs"]} == {
        *("analysis.npz", "metrics.json", "info.json")
    }
    first = (folder / "receipt.json").read_bytes()
    analyse.analyse(study)
    assert (folder / "receipt.json").read_bytes() == first


def test_what_was_written_is_read_as_it_was(study):
    made = Analyses.of(study, study.runs).tables
    analyse.analyse(study)
    read = Analyses.read(study).tables
    assert made.keys() == read.keys()
    for name, table in made.items():
        pd.testing.assert_frame_equal(table, read[name], check_dtype=False, rtol=1e-8)


def test_classes_further_apart_in_the_same_noise_are_found(study):
    analyses = Analyses.of(study, study.runs)
    paired = analyses.tables["paired"].set_index(["method", "metric"]).loc["sar"]
    assert paired.loc["compactness/ratio", "high"] < 0 < paired.loc["compactness/silhouette", "low"]
    assert paired.loc["compactness/within_variance", "mean_difference"] == pytest.approx(0, abs=0.1)
    assert paired.loc["compactness/ratio", "n"] == len(SEEDS)
    # The noise counts less in the shape of classes that are further apart.
    drift = analyses.tables["drift_compared"].set_index(["method", "measure"])
    assert (drift.loc["sar", "difference"] < 0).all()


def test_equal_runs_differ_in_nothing(study):
    for run in study.runs:
        keep(run)
    tables = Analyses.of(study, study.runs).tables
    compactness = tables["paired"][tables["paired"]["metric"].str.startswith("compactness/")]
    assert len(compactness)
    assert (compactness[["mean_difference", "low", "high"]] == 0).all(axis=None)
    compared = tables["drift_compared"].dropna(subset="difference")
    np.testing.assert_allclose(compared["difference"], 0, atol=1e-12)


def test_other_pixels_are_refused(study):
    run = study.run("shapes/tiny_net/sar/seed1")
    collector = Collector(CLASSES)
    collector.add("a", np.diag([25, 25, 25, 25, 0]))
    collector.add_features(np.ones((6, 8, 8)), np.repeat(np.arange(4), 16).reshape(8, 8), (1, 1))
    collector.write(run.output("evaluate", "analysis.npz"), classifier={}, state={}, log={})
    vouch(run.output("evaluate", "analysis.npz"))
    with pytest.raises(PipelineError, match=r"sar/seed1.*other pixels than in .*seed0"):
        analyse.analyse(study)
    assert not study.folder("analyse").exists()


def test_a_missing_run_is_named(fabricate):
    study = fabricate(skip=("shapes/tiny_net/sar/seed1",))
    with pytest.raises(PipelineError, match="shapes/tiny_net/sar/seed1"):
        analyse.analyse(study)


def test_without_the_stage_there_is_nothing_to_read(study):
    with pytest.raises(PipelineError, match=r"python -m pipelines\.analyse --study mini"):
        Analyses.read(study)


def test_the_sections_tell_numbers_and_answers(fabricate, tmp_path):
    study = apart(fabricate(seeds=list(range(8))))
    analyses = Analyses.of(study, study.runs)
    with style.drawing():
        sections = findings(study, analyses)
        for section in sections:
            for part in section.parts:
                if isinstance(part, Drawing):
                    part.figure.savefig(tmp_path / f"{part.name}.svg")
                    assert part.alternative
    assert [section.title for section in sections] == TITLES
    names = [part.name for section in sections for part in section.parts if hasattr(part, "name")]
    assert len(names) == len(set(names))
    compact, tail, drift, anchors = map(words, sections)
    assert re.search(r"SAR_1, variance within / between classes: -0\.\d+ ± .*: lower\.", compact)
    assert re.search(r"SAR_1: slope .*Does it help rare classes more\? (Yes|No)", tail)
    assert re.search(r"SAR_1, Procrustes.*over the pairs of 8 seeds.*differ less", drift)
    assert (
        "the gate opened in 8 of 8 runs, first at the record of iteration 20 ± 0 of 30" in anchors
    )
    assert "open in 66.7 ± 0 % of the records" in anchors


def test_few_seeds_have_no_answer_however_clear_the_numbers(study):
    compact, tail, drift, _ = map(words, findings(study, Analyses.of(study, study.runs)))
    assert "SAR_1, variance within / between classes: -0." in compact
    for words_of in (compact, tail, drift):
        assert "too few pairs" in words_of
        assert not re.search(r": (lower|higher)\.|\? (Yes|No:)|differ (less|more) than", words_of)


def test_tables_show_every_row_that_they_hold(study):
    for section in findings(study, Analyses.of(study, study.runs)):
        for part in section.parts:
            if isinstance(part, Table):
                assert len(part.data) == len(part.shown) > 0
                assert part.shown.map(lambda cell: isinstance(cell, str)).all(axis=None)


def test_a_study_without_anchors_or_pairs_says_why(fabricate):
    methods = {"baseline": {"label": "Baseline"}}
    study = fabricate(methods=methods, seeds=[0])
    compact, tail, drift, anchors = map(words, findings(study, Analyses.of(study, study.runs)))
    assert "no seed has both methods" in compact and "No seed has both methods" in tail
    assert drift == "Nothing can be told: it takes two seeds of one method with features."
    assert anchors.startswith("Nothing can be told: no run has a log of semantic anchors")


def test_runs_without_features_are_told(study):
    for run in study.runs:
        collector = Collector(CLASSES)
        collector.add("a", np.diag([25, 25, 25, 25, 0]))
        collector.without_features("cls_seg was called twice")
        collector.write(run.output("evaluate", "analysis.npz"), classifier={}, state={}, log={})
    compact = words(findings(study, Analyses.of(study, study.runs))[0])
    assert "no run has the features of two classes" in compact
    assert "features of 8 runs (cls_seg was called twice)" in compact


def test_one_seed_has_differences_and_no_interval(study):
    runs = [run for run in study.runs if run.seed == 0]
    compact = words(findings(study, Analyses.of(study, runs))[0])
    assert "over 1 paired seed, 95 % interval –: too few pairs, so nothing" in compact
