"""A method with a grid stands for a method at each point, before anything else sees the study."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipelines.base.errors import PipelineError
from pipelines.study import Study
from tests.pipelines import mini

SPEC = {"label": "SAR", "plugin": "nowhere:apply", "options": {"aux_weight": 1.0}}
TUNING = {"kind": "tuning", "evaluation": {"split": "val"}}


def study(fabricate, grid, of=SPEC, **changes) -> Study:
    methods = {"baseline": {"label": "Baseline"}, "sar": of | {"grid": grid}}
    return fabricate(**(TUNING | {"methods": methods} | changes))


def test_points_are_methods_with_readable_names_and_values(fabricate):
    loaded = study(fabricate, {"pull_weight": [0.01, 0.25, 1]}, seeds=[0, 1])
    assert list(loaded.file.methods) == [
        "baseline",
        "sar-pull_weight-1e-2",
        "sar-pull_weight-25e-2",
        "sar-pull_weight-1",
    ]
    middle = loaded.file.methods["sar-pull_weight-25e-2"]
    assert middle.label == "SAR, pull_weight 0.25"
    assert middle.options == {"aux_weight": 1.0, "pull_weight": 0.25}
    assert len(loaded.runs) == 4 * 2
    run = loaded.run("shapes/tiny_net/sar-pull_weight-25e-2/seed1")
    assert run.parameters("train")["options"]["pull_weight"] == 0.25


def test_a_point_is_known_by_the_parameters_of_the_same_method_written_by_hand(fabricate):
    swept = study(fabricate, {"pull_weight": [0.1]})
    by_hand = SPEC | {"options": {"aux_weight": 1.0, "pull_weight": 0.1}}
    plain = fabricate(**TUNING, methods={"baseline": {"label": "Baseline"}, "sar": by_hand})
    one = swept.run("shapes/tiny_net/sar-pull_weight-1e-1/seed0")
    other = plain.run("shapes/tiny_net/sar/seed0")
    for stage in ("train", "evaluate"):
        assert one.parameters_hash(stage) == other.parameters_hash(stage)


def test_the_recipe_is_swept_too_and_several_keys_make_a_product(fabricate):
    grid = {"training.optimizer.lr": [1e-3, 0.1], "momentum": ["auto", 0.999]}
    loaded = study(fabricate, grid)
    sweep = loaded.file.sweeps["sar"]
    assert sweep.keys == list(grid)
    assert list(sweep.points)[:2] == [
        "sar-optimizer_lr-1e-3-momentum-auto",
        "sar-optimizer_lr-1e-3-momentum-999e-3",
    ]
    assert len(sweep.points) == 4
    rates = {run.training.optimizer.lr for run in loaded.runs if run.method.endswith("auto")}
    assert rates == {1e-3, 0.1}


def test_a_variant_may_change_the_grid(fabricate):
    study(
        fabricate,
        {"pull_weight": [0.1, 1]},
        variants={"fine": {"methods": {"sar": {"grid": {"pull_weight": [0.2, 0.3, 0.4]}}}}},
    )
    fine = Study.load("mini@fine")
    assert list(fine.file.methods)[1:] == [f"sar-pull_weight-{n}e-1" for n in (2, 3, 4)]


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ([1.5], "15e-1"),
        ([100], "100"),
        ([1e7], "1e7"),
        ([0], "0"),
        ([0.0], "0"),
        ([-5], "minus5"),
        ([-0.5], "minus5e-1"),
        ([True], "true"),
        (["auto"], "auto"),
    ],
)
def test_a_value_as_a_word(fabricate, values, word):
    assert f"sar-x-{word}" in study(fabricate, {"x": values}).file.methods


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"aux_weight": [1, 2]}, r"methods.sar.grid.aux_weight: .*options.aux_weight is 1.0 alr"),
        ({"pull_weight": [1, 1.0]}, r"methods.sar.grid.pull_weight: 1 stands here twice"),
        ({"pull_weight": []}, r"mini.yaml: methods.sar.grid.pull_weight: .*at least 1 item"),
        ({"pull_weight": 0.1}, r"mini.yaml: methods.sar.grid.pull_weight: .*valid list"),
        ({}, r"mini.yaml: methods.sar.grid: .*at least 1 item"),
        ({"pull_weight": [[1]]}, r"methods.sar.grid.pull_weight: got \[1\], expected numbers"),
        ({"mode": ["A b"]}, r"methods.sar.grid.mode: got 'A b', expected numbers, true, false"),
        ({"mode": ["true"]}, r"methods.sar.grid.mode: got 'true'"),
        ({"a.b": [1]}, r"methods.sar.grid.a.b: expected the name of an option, or of a key of tra"),
        ({"training.optimizer.": [1]}, r"grid.training.optimizer.: expected the name"),
        ({"training.iterations.x": [1], "training.iterations": [3]}, r"iterations is {'x': 1}"),
        ({"a": list(range(40)), "b": list(range(40))}, r"grid: 1600 points, expected at most 1000"),
        ({"training.iterations": [20, 0]}, r"iterations-0.training: iterations: .*greater than 0"),
    ],
)
def test_a_grid_that_cannot_be_swept_is_named(fabricate, grid, message):
    with pytest.raises(PipelineError, match=message):
        study(fabricate, grid)


def test_a_point_with_the_name_of_another_method_is_refused(fabricate):
    methods = {
        "baseline": {"label": "Baseline"},
        "sar": SPEC | {"grid": {"a": [1]}},
        "sar-a-1": {"label": "Other"},
    }
    with pytest.raises(PipelineError, match="'sar-a-1' is a second method of that name"):
        fabricate(**TUNING, methods=methods)


@pytest.mark.parametrize("split", ["test", "val"])
def test_where_methods_are_compared_nothing_is_swept(fabricate, split):
    match = rf"methods.sar.grid: .*fixed-budget reports scores of the split {split}.*kind tuning"
    with pytest.raises(PipelineError, match=match):
        study(fabricate, {"a": [1]}, kind="fixed-budget", evaluation={"split": split})


def test_a_grid_on_test_describes_and_claims_nothing(fabricate):
    with pytest.raises(PipelineError, match="kind tuning goes with evaluation.split val"):
        study(fabricate, {"a": [1]}, evaluation={"split": "test"})
    described = {"kind": "sensitivity", "evaluation": {"split": "test"}}
    assert study(fabricate, {"a": [1, 2]}, **described).file.sweeps
    claim = {"metric": "mIoU", "method": "sar-a-1", "direction": "higher", "margin": 0}
    with pytest.raises(PipelineError, match="kind sensitivity describes settings and has none"):
        study(fabricate, {"a": [1, 2]}, **described, claims={"best": claim})


def test_the_documentation_s_grid_is_what_it_says(fabricate):
    text = (mini.ROOT / "docs/methods.md").read_text(encoding="utf-8")
    [block] = [each for each in re.findall(r"```yaml\n(.*?)```", text, re.S) if "grid:" in each]
    loaded = fabricate(**YAML(typ="safe").load(block))
    names = list(loaded.file.sweeps["mine"].points)
    assert len(names) == 6
    assert f"`{names[0]}`" in text
    assert f'"{loaded.file.methods[names[0]].label}"' in " ".join(text.split())


def test_the_report_is_made_again_when_methods_become_points(fabricate):
    swept = study(fabricate, {"a": [1]})
    path = Path("params/studies/mini.yaml")
    content = json.loads(path.read_text())
    point = SPEC | {"label": "SAR, a 1", "options": {"aux_weight": 1.0, "a": 1}}
    content["methods"] = {"baseline": content["methods"]["baseline"], "sar-a-1": point}
    path.write_text(json.dumps(content))
    by_hand = Study.load("mini")
    assert [run.name for run in by_hand.runs] == [run.name for run in swept.runs]
    assert by_hand.parameters_hash("report") != swept.parameters_hash("report")
