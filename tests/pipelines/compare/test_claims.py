"""One rule, every case once; and claims from the study file to the report."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from pipelines import check
from pipelines.analyse import stage as analyse
from pipelines.base.errors import PipelineError
from pipelines.compare import claims
from pipelines.compare import stage as compare
from pipelines.compare.claims import (
    INCONCLUSIVE,
    NOT_REPRODUCED,
    NOT_RUN,
    REPRODUCED,
    claim_p,
    judge,
)
from pipelines.compare.comparison import Comparison
from pipelines.compare.inference import holm, sign_flip_p, smallest_p, t_interval
from pipelines.compare.power import detectable_difference, pairs_needed, power
from pipelines.drivers import dvc_yaml
from pipelines.report import stage as report

always_the_same = settings(derandomize=True, deadline=None, max_examples=100)

BETTER = {"metric": "mIoU", "method": "sar", "direction": "higher", "margin": 1.0}
WORSE = BETTER | {"direction": "lower"}
TAIL = BETTER | {"metric": "mIoU/tail"}
TOO_MUCH = BETTER | {"metric": "IoU/9", "margin": 90}
EIGHT = list(range(8))


def judged(mean, p, *, direction="higher", margin=1.0, n=8, pairs=8, least=0.01):
    return judge(
        pairs=pairs,
        n=n,
        direction=direction,
        margin=margin,
        mean=mean,
        p_holm=p,
        p_smallest=least,
    )


@pytest.mark.parametrize(
    ("mean", "p", "verdict", "reason"),
    [
        (2.0, 0.05, REPRODUCED, "significantly beyond the margin"),
        (2.0, 0.051, INCONCLUSIVE, "beyond the margin, but not significantly"),
        (1.0, 0.01, NOT_REPRODUCED, "significantly short of the margin"),
        (0.9, 0.01, NOT_REPRODUCED, "significantly short of the margin"),
        (0.9, 0.3, INCONCLUSIVE, "short of the margin, but not significantly"),
        (-3.0, 0.01, NOT_REPRODUCED, "significantly short of the margin"),
    ],
)
def test_each_case_has_its_verdict_in_both_directions(mean, p, verdict, reason):
    assert judged(mean, p)[0] == verdict
    assert reason in judged(mean, p)[1]
    assert judged(-mean, p, direction="lower") == judged(mean, p)


@pytest.mark.parametrize(
    ("mean", "p", "verdict", "reason"),
    [
        (0.3, 0.05, REPRODUCED, "significantly within the margin"),
        (0.3, 0.051, INCONCLUSIVE, "within the margin, but not significantly"),
        (1.5, 0.01, NOT_REPRODUCED, "significantly outside the margin"),
        (1.5, 0.3, INCONCLUSIVE, "outside the margin, but not significantly"),
    ],
)
def test_a_claim_of_equivalence_has_two_sides(mean, p, verdict, reason):
    assert judged(mean, p, direction="within")[0] == verdict
    assert reason in judged(mean, p, direction="within")[1]
    assert judged(-mean, p, direction="within") == judged(mean, p, direction="within")


def test_no_margin_asks_for_the_direction_alone():
    assert judged(0.1, 0.01, margin=0.0)[0] == REPRODUCED
    assert judged(0.0, 1.0, margin=0.0)[0] == INCONCLUSIVE
    assert judged(-0.1, 0.01, margin=0.0)[0] == NOT_REPRODUCED


def test_too_few_pairs_decide_nothing_and_missing_ones_are_not_run():
    for mean in (2.0, -2.0):
        assert judged(mean, 0.06, least=0.0500001)[0] == INCONCLUSIVE
        assert judged(mean, 0.06, n=7)[0] == NOT_RUN
    assert judged(math.nan, math.nan, n=0) == (NOT_RUN, "0 of 8 pairs have both scores")


def test_a_margin_is_tested_as_a_margin():
    """All eight beyond 1 are as sure of "more than 1" as all beyond 0 of "more than 0"."""
    beyond = np.array([1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8])
    assert claim_p(beyond, "higher", 1.0) == claim_p(-beyond, "lower", 1.0) == 2 / 256
    assert claim_p(beyond, "higher", 0.0) == 2 / 256
    # The mean 1.45 against 1.4: nothing to tell, however sure the difference itself is.
    assert claim_p(beyond, "higher", 1.4) > 0.5
    # Short of 2, and surely so.
    assert claim_p(beyond, "higher", 2.0) == 2 / 256


def test_equal_within_a_margin_takes_both_of_its_sides():
    near = np.array([-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4])
    assert claim_p(near, "within", 1.0) == 2 / 256
    assert claim_p(near, "within", 0.35) == sign_flip_p(near - 0.35) > 2 / 256
    assert claim_p(-near, "within", 0.35) == claim_p(near, "within", 0.35)
    # Far outside: as surely not within as it is beyond.
    assert claim_p(near + 5, "within", 1.0) == claim_p(near + 5, "higher", 1.0) == 2 / 256


numbers = st.floats(-10, 10)


@always_the_same
@given(
    numbers,
    st.floats(0, 1),
    st.floats(0, 5),
    st.sampled_from(["higher", "lower", "within"]),
    st.integers(0, 8),
    st.floats(0, 1),
)
def test_the_rule_as_written_gives_just_one_verdict(mean, p, margin, direction, n, least):
    """Each verdict by its sentence in `RULE`, apart from the code that decides."""
    verdict, reason = judged(mean, p, direction=direction, margin=margin, n=n, least=least)
    claimed_side = {
        "higher": mean > margin,
        "lower": mean < -margin,
        "within": -margin < mean < margin,
    }[direction]
    run, enough = n == 8, least <= 0.05
    holds = {
        NOT_RUN: not run,
        REPRODUCED: run and enough and p <= 0.05 and claimed_side,
        NOT_REPRODUCED: run and enough and p <= 0.05 and not claimed_side,
    }
    holds[INCONCLUSIVE] = not any(holds.values())
    assert [name for name, here in holds.items() if here] == [verdict]
    assert verdict in claims.RULE and reason


RANK = {NOT_REPRODUCED: 0, INCONCLUSIVE: 1, REPRODUCED: 2}


@settings(always_the_same, max_examples=40)
@given(
    st.lists(numbers, min_size=6, max_size=9),
    st.floats(0, 5),
    st.floats(0, 3),
    st.sampled_from([1, -1]),
    st.integers(1, 2),
)
def test_greater_differences_never_worsen_the_verdict(values, shift, margin, sign, tests):
    assume(np.ptp(values) > 1e-3)

    def rank(differences, margin):
        others = [1.0] * (tests - 1)
        direction = "higher" if sign == 1 else "lower"
        verdict, _ = judged(
            np.mean(differences),
            holm([claim_p(differences, direction, margin), *others])[0],
            direction=direction,
            margin=margin,
            least=tests * smallest_p(len(values)),
        )
        return RANK[verdict]

    values = np.array(values)
    before = rank(values, margin)
    assert rank(values + sign * shift, margin) >= before
    assert rank(values, margin + shift) <= before


@settings(always_the_same, max_examples=40)
@given(st.lists(numbers, min_size=6, max_size=9), st.floats(0.1, 5), st.floats(0, 3))
def test_a_wider_margin_never_makes_equal_less_so(values, margin, more):
    assume(np.ptp(values) > 1e-3)

    def rank(margin):
        p = claim_p(np.array(values), "within", margin)
        return RANK[judged(np.mean(values), p, direction="within", margin=margin)[0]]

    assert rank(margin + more) >= rank(margin)


def test_a_study_tests_its_claims_and_corrects_for_all_of_them(fabricate):
    study = fabricate(seeds=EIGHT, claims={"a": BETTER, "b": TAIL, "c": TOO_MUCH, "d": WORSE})
    compare.compare(study)
    tables = Comparison.read(study)
    table = tables.claims.set_index("claim")
    assert table["verdict"].to_dict() == {
        "a": REPRODUCED,
        "b": REPRODUCED,
        "c": NOT_REPRODUCED,
        "d": NOT_REPRODUCED,
    }
    runs = tables.runs[tables.runs["metric"] == "mIoU"]
    wide = runs.pivot(index="seed", columns="method", values="value")
    differences = (wide["sar"] - wide["baseline"]).to_numpy()
    row = table.loc["a"]
    assert (row["n"], row["pairs"], row["against"]) == (8, 8, "baseline")
    assert row["mean_difference"] == pytest.approx(differences.mean(), rel=1e-8)
    assert row["std_difference"] == pytest.approx(differences.std(ddof=1), rel=1e-8)
    assert (row["low"], row["high"]) == pytest.approx(t_interval(differences), rel=1e-6)
    assert (table["p"] == 2 / 256).all() and (table["p_holm"] == 4 * 2 / 256).all()
    paired = tables.paired[(tables.paired["metric"] == "mIoU") & (tables.paired["method"] == "sar")]
    for column in ("mean_difference", "std_difference", "low", "high", "p"):
        assert paired[column].item() == pytest.approx(row[column], rel=1e-8)


def test_methods_can_be_claimed_against_each_other_where_their_seeds_pair(fabricate):
    methods = {
        "baseline": {"label": "Baseline"},
        "sar": {"label": "SAR", "plugin": "nowhere:apply"},
        "other": {"label": "Other", "plugin": "nowhere:other", "seeds": [1, 2]},
    }
    claim = {"metric": "mIoU", "method": "other", "against": "sar", "direction": "lower"}
    study = fabricate(methods=methods, claims={"x": claim | {"margin": 0}})
    table = Comparison.of(study, study.runs).claims
    scores = Comparison.of(study, study.runs).runs
    wide = scores[scores["metric"] == "mIoU"].pivot(index="seed", columns="method", values="value")
    assert table["pairs"].item() == table["n"].item() == 2
    expected = (wide["other"] - wide["sar"]).dropna().mean()
    assert table["mean_difference"].item() == pytest.approx(expected)
    assert table["p_smallest"].item() == 0.5


def test_names_that_read_like_numbers_stay_names(fabricate):
    methods = {"1": {"label": "One"}, "null": {"label": "Two", "plugin": "nowhere:apply"}}
    claim = BETTER | {"method": "null"}
    study = fabricate(methods=methods, baseline="1", claims={"7": claim})
    compare.compare(study)
    row = Comparison.read(study).claims.iloc[0]
    assert (row["claim"], row["method"], row["against"]) == ("7", "null", "1")


def test_a_claim_is_one_test_for_each_data_set_and_model_that_it_does_not_choose(
    fabricate, tmp_path
):
    (tmp_path / "params/models").mkdir(parents=True)
    (tmp_path / "params/models/other.yaml").write_text("title: Other\nconfig: other.py\n")
    study = fabricate(
        models=["tiny_net", "other"],
        claims={"both": BETTER, "one": BETTER | {"model": "other", "dataset": "shapes"}},
    )
    tests = [(each.name, each.dataset, each.model) for each in study.claims]
    assert tests == [
        ("both", "shapes", "tiny_net"),
        ("both", "shapes", "other"),
        ("one", "shapes", "other"),
    ]
    scores = Comparison.of(study, study.runs).runs
    scores.loc[(scores["model"] == "other") & (scores["method"] == "sar"), "value"] += 5
    table = claims.assess(study, scores)
    assert (table["p_smallest"] == 3 * 2 / 2**3).all()
    first, second, third = table["mean_difference"]
    assert second == third == pytest.approx(first + 5)


def test_a_claim_that_lacks_a_run_is_not_tested_and_still_counts(fabricate):
    study = fabricate(seeds=EIGHT, claims={"a": BETTER, "b": BETTER | {"metric": "IoU/gone"}})
    rest = [run for run in study.runs if run.name != "shapes/tiny_net/sar/seed3"]
    table = Comparison.of(study, rest).claims.set_index("claim")
    assert (table["verdict"] == NOT_RUN).all() and table["n"].tolist() == [7, 0]
    assert table[["mean_difference", "low", "p", "p_holm"]].isna().all(axis=None)
    whole = Comparison.of(study, study.runs).claims.set_index("claim")
    assert whole["verdict"].tolist() == [REPRODUCED, NOT_RUN]
    assert whole.loc["a", "p_holm"] == 2 * 2 / 256


def test_only_compare_and_report_depend_on_claims(fabricate):
    def hashes(study):
        run = study.run("shapes/tiny_net/sar/seed0")
        return [
            *(run.parameters_hash(stage) for stage in ("train", "evaluate")),
            *(study.parameters_hash(stage) for stage in ("compare", "report")),
        ]

    without, some, other = (
        hashes(fabricate(claims=stated)) for stated in ({}, {"a": BETTER}, {"a": TAIL})
    )
    assert without[:2] == some[:2] == other[:2]
    for stage in (2, 3):
        assert len({without[stage], some[stage], other[stage]}) == 3
    # As it was before there were claims: what was compared then stays valid.
    assert without == hashes(fabricate())
    assert "claims" not in fabricate().parameters("compare", defaults=False)


def test_dvc_runs_compare_again_for_other_claims(fabricate):
    def watched(study):
        stages = YAML(typ="safe").load(dvc_yaml.render_study(study))["stages"]
        return [
            name
            for name, stage in stages.items()
            if any("claims" in (keys or []) for each in stage["params"] for keys in each.values())
        ]

    assert watched(fabricate()) == []
    assert watched(fabricate(claims={"a": BETTER})) == ["compare"]


def page_of(study) -> str:
    compare.compare(study)
    analyse.analyse(study)
    report.report(study)
    return study.output("report", "report.md").read_text(encoding="utf-8")


def test_the_report_shows_each_claim_with_verdict_numbers_and_rule(fabricate, no_figures):
    study = fabricate(seeds=EIGHT, claims={"a": BETTER, "b": TOO_MUCH})
    section = page_of(study).split("## Claims")[1].split("## Controls")[0]
    assert "SAR_1 higher than Baseline, by 1.00" in section
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    assert rows[1].endswith("| reproduced     |") and rows[2].endswith("| not reproduced |")
    assert "| 0.0078 |    0.0156 |" in rows[1]
    # Good and bad news are told in the same words.
    assert "- `a` (shapes, tiny_net): **reproduced**; claimed was mIoU of SAR_1 higher" in section
    assert "- `b` (shapes, tiny_net): **not reproduced**; claimed was IoU/9 of SAR_1" in section
    for verdict, rule in claims.RULE.items():
        assert f"- *{verdict}*: {rule}" in section
    assert "all 2 tests" in section and "Too few seeds" not in section
    written = pd.read_csv(study.output("report", "claims.csv"))
    assert written["verdict"].tolist() == [REPRODUCED, NOT_REPRODUCED]
    table = study.output("report", "table.md").read_text(encoding="utf-8")
    assert "Nothing here is tested but what the study claimed" in table


def test_too_few_seeds_are_refused_before_the_runs_and_told_after(fabricate, no_figures):
    six = list(range(6))
    check.check_claims(fabricate(seeds=six, claims={"a": BETTER}))
    study = fabricate(seeds=six, claims={"a": BETTER, "b": TAIL})
    page = page_of(study)
    assert "> **Too few seeds:**" in page and "correction over 2 tests" in page
    assert "- `b` (shapes, tiny_net): 6 pairs, p after Holm is never below 0.0625" in page
    assert set(Comparison.read(study).claims["verdict"]) == {INCONCLUSIVE}
    with pytest.raises(PipelineError) as refused:
        check.check_claims(study)
    first, second = str(refused.value).splitlines()
    assert "mini.yaml: claims.a: 6 paired seeds are too few" in first and "claims.b" in second
    with pytest.raises(PipelineError, match="claims.a: 6 paired seeds"):
        check.check(study)


def test_check_tells_the_power_from_an_assumed_or_measured_spread(fabricate):
    def told(**keys):
        study = fabricate(seeds=EIGHT, claims={"a": BETTER | keys})
        return study, check.prospects(study)[0]

    study, line = told()
    assert line.endswith("8 pairs; power unknown: no assumed_sd, and nothing was measured yet")
    compare.compare(study)
    measured = Comparison.read(study).claims["std_difference"].item()
    assert f"sd of the difference {measured:.2f} (measured, " in check.prospects(study)[0]
    about = {"direction": "higher", "margin": 1.0, "tests": 1}
    least = detectable_difference(1.5, 8, **about)
    _, line = told(assumed_sd=1.5)
    assert "sd of the difference 1.50 (assumed_sd)" in line
    assert line.endswith(f"a true difference of {least:+.2f} points has 80% power")
    _, line = told(assumed_sd=1.5, assumed_difference=2.0)
    needed = pairs_needed(2.0, 1.5, **about)
    assert line.endswith(
        f"+2.00 points have {power(2.0, 1.5, 8, **about):.0%}, and 80% take {needed} pairs"
    )
    _, line = told(assumed_sd=1.5, direction="within")
    assert "+0.00 points have " in line and "a true difference" not in line


def test_the_report_tells_a_claim_of_equivalence(fabricate, no_figures):
    equal = BETTER | {"direction": "within", "margin": 99.0}
    apart = equal | {"margin": 0.001}
    section = page_of(fabricate(seeds=EIGHT, claims={"a": equal, "b": apart}))
    assert "SAR_1 within 99.00 of Baseline" in section
    assert "**reproduced**; claimed was mIoU of SAR_1 within 99.00 points of Baseline" in section
    assert "**not reproduced**; claimed was mIoU of SAR_1 within 0.00 points" in section


def test_equivalence_makes_no_score_the_best():
    row = {"verdict": REPRODUCED, "dataset": "d", "model": "m", "metric": "mIoU"}
    row |= {"method": "sar", "against": "base", "direction": "within"}
    assert not claims.says_better(pd.DataFrame([row]), "d", "m", "mIoU", "sar")
    assert not claims.says_better(pd.DataFrame([row]), "d", "m", "mIoU", "base")
    higher = pd.DataFrame([row | {"direction": "higher"}])
    assert claims.says_better(higher, "d", "m", "mIoU", "sar")


def test_a_partial_report_says_not_run(fabricate, no_figures):
    study = fabricate(seeds=EIGHT, claims={"a": BETTER}, skip=("shapes/tiny_net/sar/seed5",))
    report.report_partial(study)
    page = (report.partial_folder(study) / "report.md").read_text(encoding="utf-8")
    assert "**not run**" in page and "1 of the study's 18 runs are missing" in page
    assert "| not run" in page


def test_a_study_without_claims_says_so(fabricate, no_figures):
    study = fabricate()
    page = page_of(study)
    assert "made no claims before the runs, so nothing is tested" in page
    table = study.output("report", "table.md").read_text(encoding="utf-8")
    assert "No significance test is made." in table
    assert Comparison.read(study).claims.empty
