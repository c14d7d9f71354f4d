"""What a report answers first: the lead, where a gain comes from, whose features are compact."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipelines.base.errors import PipelineError
from pipelines.base.frames import KEYS
from pipelines.compare.claims import assess
from pipelines.compare.comparison import Comparison
from pipelines.compare.statistics import paired_differences, summarise
from pipelines.rendering import style
from pipelines.report.gallery import Scene
from pipelines.report.material import Material
from pipelines.report.sections import (
    anchors,
    answer,
    claims,
    comparison,
    forest,
    frequency,
    gain,
    predictions,
)
from pipelines.study import Study
from pipelines.study.schema import Claim

SEEDS = list(range(8))
METHODS = {
    "baseline": {"label": "Baseline"},
    "sar": {"label": "SAR", "plugin": "m:f", "options": {"pull_weight": 0.1, "momentum": "auto"}},
    "alone": {"label": "SAR without pull", "plugin": "m:f", "options": {"pull_weight": 0.0}},
}
MEANS = {"baseline": 30.0, "sar": 34.0, "alone": 36.0}
NOISE = np.array([-0.5, 0.5, -0.3, 0.3, -0.2, 0.2, -0.1, 0.1])
CLAIM = {"metric": "mIoU/night", "method": "sar", "direction": "higher", "margin": 1.0}


@pytest.fixture
def study(fabricate) -> Study:
    """A study of three arms that has no runs."""
    names = [f"shapes/tiny_net/{m}/seed{s}" for m in METHODS for s in SEEDS]
    return fabricate(methods=METHODS, seeds=SEEDS, skip=tuple(names))


def scores(metrics=("mIoU", "mIoU/head", "mIoU/night")) -> pd.DataFrame:
    rows = [
        ("shapes", "tiny_net", method, seed, metric, mean + place + NOISE[seed] * (1 + len(method)))
        for method, mean in MEANS.items()
        for seed in SEEDS
        for place, metric in enumerate(metrics)
    ]
    return pd.DataFrame(rows, columns=[*KEYS, "seed", "metric", "value"])


def material(study, runs=None) -> Material:
    runs = study.runs if runs is None else runs
    table, none = scores(), pd.DataFrame()
    found = Comparison(
        runs=table,
        summary=summarise(table, [*KEYS, "metric"]),
        paired=paired_differences(table, "baseline"),
        claims=assess(study, table, missing=len(study.runs) - len(runs)),
        curves=none,
        confusion=none,
    )
    return Material(study, runs, found, None, {}, {}, {})


def test_the_two_steps_are_told_and_add_up(study):
    section = gain.section(material(study))
    table = section.parts[1].data
    assert set(table["metric"]) == {"mIoU", "mIoU/head"}
    steps = table[table["metric"] == "mIoU"].set_index("step")["mean_difference"]
    assert steps["auxiliary loss alone"] == pytest.approx(6.0)
    assert steps["pull added to it"] == pytest.approx(-2.0)
    assert steps["both"] == pytest.approx(steps.drop("both").sum())
    words = section.parts[0].markdown
    assert "SAR without pull minus Baseline, the auxiliary loss alone: +6.0" in words
    # Eight pairs of one sign have p = 2/256, and two of them are answered.
    assert "SAR minus SAR without pull, the pull: -2.00 ± 0.67 points over 8 pairs" in words
    assert "p = 0.0156 after Holm: lower." in words and "after Holm: higher." in words
    assert table["p_holm"].notna().sum() == 2


def test_methods_that_share_a_twin_share_its_test(fabricate):
    methods = METHODS | {"other": METHODS["sar"] | {"label": "SAR 2"}}
    study = fabricate(
        methods=methods,
        seeds=SEEDS,
        skip=tuple(f"shapes/tiny_net/{m}/seed{s}" for m in methods for s in SEEDS),
    )
    runs = scores()
    other = runs[runs["method"] == "sar"].assign(method="other")
    table = gain.gain_table(study, pd.concat([runs, other], ignore_index=True))
    told = table[table["p_holm"].notna()]
    # Three tests of p = 2/256 each: the step of the twin, and a pull each.
    assert told["p_holm"].tolist() == pytest.approx([3 * 2 / 256] * 4)
    assert told["compared"].nunique() == 3


def test_while_runs_are_missing_the_steps_are_not_judged(study):
    words = gain.section(material(study, study.runs[:-1])).parts[0].markdown
    assert words.count("not judged yet.") == 2 and "Holm: lower" not in words


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"pull_weight": 0}, True),
        ({"pull_weight": 0.0, "momentum": 0.999}, True),  # nothing moves that pulls
        ({"pull_weight": 0.0, "aux_weight": 2.0}, False),
        ({"pull_weight": 0.2}, False),
    ],
)
def test_a_twin_differs_by_the_pull_alone(fabricate, options, found):
    methods = METHODS | {"alone": METHODS["alone"] | {"options": options}}
    names = [f"shapes/tiny_net/{m}/seed0" for m in METHODS]
    study = fabricate(methods=methods, seeds=[0], skip=tuple(names))
    assert gain.arms(study) == ([gain.Arms("sar", "alone")] if found else [])
    assert (gain.section(material(study)) is not None) is found


def test_the_lead_answers_in_a_sentence(study):
    told = answer.answer(material(study))
    assert told.startswith("On Made-up shapes with `tiny_net`, SAR has **34.0 ± 1.3 % mIoU**")
    assert "against 30.0 ± 3.0 % of Baseline: **+4.0 ± 1.7 points over 8 pairs" in told
    assert "the pull to semantic anchors adds -2.00 ± 0.67 points" in told
    assert told.endswith("(described: the study claimed nothing before its runs).")


def test_a_score_of_a_subset_has_a_column_a_row_of_the_forest_and_claims(fabricate):
    with pytest.raises(PipelineError, match=r"claims.a.metric: .*no mIoU/night; they have mIoU, "):
        fabricate(claims={"a": CLAIM}, skip=("all",))
    study = fabricate(
        methods=METHODS,
        seeds=SEEDS,
        skip=tuple(f"shapes/tiny_net/{m}/seed{s}" for m in METHODS for s in SEEDS),
    )
    found = material(study)
    section = comparison.comparison(found)
    assert "mIoU/night" in section.parts[0].shown
    assert section.parts[0].shown["mIoU/night"].tolist()[1] == "36.0 ± 1.3"
    assert "mIoU/night: on those images of the split alone" in section.parts[0].caption
    assert "mIoU/night" in section.parts[1].alternative
    file = study.file.model_copy(
        update={
            "evaluation": study.file.evaluation.model_copy(update={"subsets": ["night"]}),
            "claims": {"a": Claim(**CLAIM)},
        }
    )
    claimed = material(replace(study, file=file))
    [verdict] = claims.claims(claimed).parts[0].judged
    assert verdict.verdict == "reproduced"
    assert verdict.numbers == "mIoU/night +4.00 ± 1.67 points, p = 0.0078"


def test_the_forest_has_a_row_for_each_difference(study):
    paired = material(study).comparison.paired
    methods = {name: spec["label"] for name, spec in METHODS.items()}
    with style.drawing():
        figure = forest.forest_figure(paired, {"mIoU": "mIoU", "mIoU/head": "head"}, methods)
        [axes] = figure.axes
        labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert labels == ["SAR", "SAR without pull"] * 2
    means = [bar.lines[0].get_xdata()[0] for bar in axes.containers]
    assert means == pytest.approx([4.0, 6.0, 4.0, 6.0])


def classes(slopes: dict[str, float], seeds=SEEDS) -> pd.DataFrame:
    """Relative scatter of four classes, whose slope on the share is that of the method."""
    shares = {"a": 0.1, "b": 0.01, "c": 0.001, "d": 0.0001}
    groups = {"a": "head", "b": "head", "c": "mid", "d": "tail"}
    rows = [
        ("shapes", "tiny_net", method, seed, name, groups[name], share, level)
        for method, slope in slopes.items()
        for seed in seeds
        for name, share in shares.items()
        for level in [2 + (slope + 0.01 * NOISE[seed] * len(method)) * (np.log10(share) + 2.5)]
    ]
    columns = [*KEYS, "seed", "class", "group", "train_share", "relative_scatter"]
    return pd.DataFrame(rows, columns=columns)


LABELS = {"baseline": "Baseline", "sar": "SAR"}


@pytest.mark.parametrize(
    ("slope", "answers"),
    [
        (-0.3, "Compactness moves from rare to frequent classes."),
        (0.3, "Compactness moves from frequent to rare classes."),
        (0.0, "No answer: no difference by frequency can be told."),
    ],
)
def test_compactness_is_told_by_the_frequency_of_the_classes(slope, answers):
    text, table = frequency.parts(classes({"baseline": 0.0, "sar": slope}), LABELS, "baseline")
    assert answers in text.markdown
    found = table.data.set_index("measure")
    assert found.loc["slope", "mean_difference"] == pytest.approx(slope, abs=1e-9)
    assert found.loc["head", "mean_difference"] == pytest.approx(slope * 1.0)
    assert found.loc["tail", "mean_difference"] == pytest.approx(slope * -1.5)
    assert found["p_holm"].notna().tolist() == [name == "slope" for name in found.index]


def test_few_pairs_do_not_answer_whose_classes_become_compact():
    table = classes({"baseline": 0.0, "sar": -0.3}, seeds=[0, 1, 2])
    text, _ = frequency.parts(table, LABELS, "baseline")
    assert "No answer: too few pairs." in text.markdown
    assert frequency.parts(table[table["method"] == "sar"], LABELS, "baseline") == []


def test_the_losses_of_the_mechanism_are_told_over_time():
    iterations = [10, 20, 30, 40]
    curves = pd.DataFrame(
        [
            ("d", "m", method, iteration, f"sar.{loss}", mean)
            for method in ("sar", "other")
            for loss, means in {"loss_aux_ce": (2, 0.5, 0, 0), "loss_p2a": (0, 1, 1, 1)}.items()
            for iteration, mean in zip(iterations, means, strict=True)
        ],
        columns=[*KEYS, "iteration", "metric", "mean"],
    )
    losses = anchors._losses(curves, {"sar"})
    assert set(losses["method"]) == {"sar"}
    words = anchors._mechanism(losses, LABELS)
    assert "L_aux-ce is 2 at the first record, last above 0 at iteration 20 of 40" in words
    assert "exactly 0 in all seeds in 50 % of the 4 records" in words
    with style.drawing():
        drawing = anchors._drawn(losses, LABELS)
    assert [axes.get_title(loc="left") for axes in drawing.figure.axes] == [
        "L_aux-ce",
        "L_p2a, the pull",
    ]


def test_a_data_set_without_its_images_says_why_and_has_no_column_of_them():
    pixels = np.zeros((8, 8), np.uint8)
    scene = Scene("x", "best", np.zeros((8, 8, 3), np.uint8), pixels, {"sar": pixels}, {"sar": 50})
    info = {"classes": ["a"], "palette": [[1, 2, 3]], "ignore_index": 255}
    with style.drawing():
        for withheld, titles in (((), ["image", "truth", "SAR"]), (["d"], ["truth", "SAR"])):
            panels = {("d", "m"): [scene]}
            figure = predictions.gallery_figure(panels, {"d": info}, {"sar": "SAR"}, withheld)
            [part] = figure.subfigs
            assert [axes.get_title() for axes in part.axes] == titles
