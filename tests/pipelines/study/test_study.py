"""Study files: what they expand to, and that every mistake is named before anything runs."""

from __future__ import annotations

import copy
import json
import shlex
from pathlib import Path

import pytest

from pipelines.base.errors import PipelineError
from pipelines.running.custody import Made
from pipelines.study import DATASET_STAGES, RUN_STAGES, STUDY_STAGES, Study

ROOT = Path(__file__).parents[3]


@pytest.fixture
def edited(fabricate):
    """A function that loads the made-up study after its file was edited by `change(content)`."""
    fabricate()
    path = Path("params/studies/mini.yaml")
    original = json.loads(path.read_text())

    def load(change) -> Study:
        content = copy.deepcopy(original)
        change(content)
        path.write_text(json.dumps(content))
        return Study.load("mini")

    return load


def put(key: str, value):
    """A change that puts `value` at a dotted `key`."""

    def change(content: dict) -> None:
        *parents, last = key.split(".")
        for parent in parents:
            content = content[parent]
        content[last] = value

    return change


CLAIM = {"metric": "mIoU/tail", "method": "sar", "direction": "higher", "margin": 0.5}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "training.iteratons",
            10,
            r"mini.yaml: training.iteratons: Extra inputs are not permitted",
        ),
        ("training.iterations", 0, r"mini.yaml: training.iterations: .*greater than 0 \(got 0\)"),
        ("training.iterations", "20", r"training.iterations: .*valid integer \(got '20'\)"),
        ("training.optimizer.type", "Sdg", r"training.optimizer.type: .*'SGD'.*\(got 'Sdg'\)"),
        ("training.optimizer.lr", -0.1, r"training.optimizer.lr: .*greater than 0"),
        ("training.schedule", {"warmup_iterations": 20}, r"training: schedule.warmup_iterations"),
        ("training.augmentation", {"scale_range": [0.5, 2.0]}, r"scale_range needs crop_size"),
        ("training.augmentation", {"base_size": [9, 9]}, r"base_size goes with scale_range"),
        ("training.augmentation", {"cat_max_ratio": 0}, r"augmentation.cat_max_ratio: .*than 0"),
        ("training.augmentation", {"photometric": {"hue": 3}}, r"photometric.*hue: Extra inputs"),
        ("training.schedule", {"warmup_start_factor": 0.1}, r"goes with warmup_iterations, which"),
        ("seeds", [0, 1, 1], r"mini.yaml: seeds: 1 stands here twice"),
        ("seeds", [], r"seeds: .*at least 1 item"),
        ("datasets", ["cityscape"], r"datasets: unknown 'cityscape'; params/datasets has: shapes"),
        ("models", ["hrnet"], r"models: unknown 'hrnet'; params/models has: tiny_net"),
        ("baseline", "base", r"baseline 'base' is not one of methods: baseline, sar, longer"),
        ("methods.longer.seeds", [0, 9], r"methods.longer.seeds holds 9, which seeds does not"),
        ("methods.baseline.options", {"a": 1}, r"methods.baseline: options are given without a pl"),
        ("methods.sar.plugin", "sar.mmseg", r"methods.sar.plugin: .*match pattern"),
        (
            "methods.longer.training",
            {"iterations": -1},
            r"mini.yaml: methods.longer.training: iterations: .*greater than 0",
        ),
        ("evaluation", {"split": "train"}, r"evaluation.split: .*'val' or 'test'"),
        ("threads", 0, r"threads: .*greater than 0"),
        (
            "processes",
            4,
            r"mini.yaml: training.batch_size: 2 images cannot be shared equally by .* 4 processes",
        ),
        (
            "methods.longer.training",
            {"batch_size": 3, "processes": 2},
            r"methods.longer.training: processes: Extra inputs",
        ),
        ("methods.sar.label", "Baseline", r"methods: label 'Baseline' stands here twice"),
        ("methods.baseline.control", True, r"baseline 'baseline' is a control"),
        (
            "claims",
            {"Tail": {}},
            r"mini.yaml: claims.Tail.\[key\]: .*match pattern",
        ),
        (
            "training.optimizer",
            {"type": "SGD", "lr": 0.1, "betas": [0.9, 0.99]},
            r"training.optimizer: betas go with type Adam or AdamW, not SGD",
        ),
        ("evaluation", {"mode": "slide", "stride": [9, 9]}, r"evaluation: crop_size goes with"),
        ("evaluation", {"stride": [9, 9]}, r"evaluation: stride goes with mode slide"),
        (
            "evaluation",
            {"mode": "slide", "crop_size": [8, 8], "stride": [8, 9]},
            r"evaluation: stride 9 is larger than the window's side 8",
        ),
        ("overrides", {"a": {}}, r"mini.yaml: .*overrides.a changes nothing"),
        ("overrides", {"a": {"trainin": {}}}, r"mini.yaml: overrides.a.trainin: Extra inputs"),
        (
            "overrides",
            {"a": {"models": ["hrnet"], "training": {"iterations": 5}}},
            r"overrides.a.models: unknown 'hrnet', so no run matches; models has: tiny_net",
        ),
        (
            "overrides",
            {"a": {"datasets": [], "training": {"iterations": 5}}},
            r"overrides.a.datasets: .*at least 1 item",
        ),
        (
            "overrides",
            {"a": {"training": {"iterations": 5}}, "b": {"training": {"iteratons": 5}}},
            r"mini.yaml: overrides.b.training: iteratons: Extra inputs",
        ),
        (
            "overrides",
            {"a": {"evaluation": {"stride": [1, 1]}}},
            r"mini.yaml: overrides.a.evaluation: .*stride goes with mode slide",
        ),
        ("overrides", {"a": {"evaluation": {"split": "val"}}}, r"overrides.a.evaluation.split"),
        ("overrides", {"a": {"evaluation": {"gallery": 1}}}, r"overrides.a.evaluation.gallery"),
        (
            "claims",
            {"a": {**CLAIM, "metric": "mIoU/multi-scale"}},
            r"mini.yaml: claims.a.metric: runs of shapes / tiny_net have no mIoU/multi-scale",
        ),
        ("kind", "tuning", r"kind tuning goes with evaluation.split val, not test"),
        (
            "evaluation",
            {"subsets": ["night"]},
            r"mini.yaml: evaluation.subsets: 'night' is no subset of the split test; .* has none",
        ),
    ],
)
def test_a_mistake_names_file_key_and_expectation(edited, key, value, message):
    with pytest.raises(PipelineError, match=message):
        edited(put(key, value))


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("metric", "mIoU/rare", r"claims.a.metric: .*no mIoU/rare; they have mIoU, .*subset"),
        ("metric", "IoU/", r"claims.a.metric: .*match pattern"),
        ("metric", "IoU/nine", r"claims.a.metric: .*'shapes' has no class 'nine'; .* ground, 9, t"),
        (
            "direction",
            "better",
            r"claims.a.direction: .*, 'lower' or 'within' \(got 'better'\)",
        ),
        ("margin", -0.1, r"claims.a.margin: .*greater than or equal to 0"),
        ("margin", 100, r"claims.a.margin: .*less than 100"),
        ("assumed_sd", 0, r"claims.a.assumed_sd: .*greater than 0"),
        ("margins", 1, r"claims.a.margins: Extra inputs"),
        ("method", "sarr", r"claims.a.method: unknown 'sarr'; methods has: baseline, sar, longer"),
        ("method", "longer", r"claims.a.method: 'longer' is a control.*one of baseline, sar"),
        ("method", "baseline", r"claims.a: 'baseline' is compared with itself"),
        ("against", "base", r"claims.a.against: unknown 'base'; methods has"),
        ("against", "longer", r"claims.a.against: 'longer' is a control"),
        ("against", "sar", r"claims.a: 'sar' is compared with itself"),
        ("dataset", "digits", r"claims.a.dataset: unknown 'digits'; datasets has: shapes"),
        ("model", "hrnet", r"claims.a.model: unknown 'hrnet'; models has: tiny_net"),
    ],
)
def test_a_mistake_in_a_claim_names_file_key_and_expectation(edited, part, value, message):
    edited(put("claims", {"a": CLAIM}))
    with pytest.raises(PipelineError, match=f"mini.yaml: .*{message}"):
        edited(put("claims", {"a": CLAIM | {part: value}}))


def test_a_claim_needs_seeds_in_common(edited):
    def change(content: dict) -> None:
        content["methods"]["baseline"]["seeds"] = [0]
        content["methods"]["sar"]["seeds"] = [1, 2]
        content["claims"] = {"a": CLAIM}

    with pytest.raises(PipelineError, match="claims.a: 'sar' and 'baseline' have no seed in comm"):
        edited(change)


def test_tuning_makes_no_claims(edited):
    def change(content: dict) -> None:
        content |= {"kind": "tuning", "evaluation": {"split": "val"}, "claims": {"a": CLAIM}}

    with pytest.raises(PipelineError, match="mini.yaml: .*claims: a study of kind tuning"):
        edited(change)


def without(*splits: str) -> None:
    """Turn the data set of the made-up study into one in files that lacks these splits."""
    path = Path("params/datasets/shapes.yaml")
    card = json.loads(path.read_text())
    has = {"train", "val", "test"} - set(splits)
    card["source"] = {
        "kind": "files",
        "parts": {"mine": {"kind": "folder", "path": "mine"}},
        "splits": {split: {"images": f"im/{split}", "labels": f"an/{split}"} for split in has},
    }
    path.write_text(json.dumps(card))


def test_a_split_that_a_data_set_lacks_is_named_with_the_key_that_asks_for_it(edited):
    without("test")
    expected = (
        r"mini.yaml: evaluation.split: needs the split test, and .*shapes.yaml has train, val"
    )
    with pytest.raises(PipelineError, match=expected):
        edited(lambda content: None)
    edited(put("evaluation", {"split": "val"}))


def test_validation_needs_the_split_val(edited):
    without("val")
    with pytest.raises(PipelineError, match=r"mini.yaml: training.validation_interval: .* val"):
        edited(lambda content: None)
    edited(put("training.validation_interval", None))

    def of_one_method(content: dict) -> None:
        put("training.validation_interval", None)(content)
        put("methods.longer.training.validation_interval", 5)(content)

    with pytest.raises(PipelineError, match=r"methods.longer.training.validation_interval: needs"):
        edited(of_one_method)


def test_a_key_that_stands_twice_is_an_error(fabricate):
    fabricate()
    path = Path("params/studies/mini.yaml")
    path.write_text(path.read_text().replace("{", '{"threads": 2,', 1))
    with pytest.raises(PipelineError, match=r"mini.yaml: not valid YAML .*duplicate key"):
        Study.load("mini")


def test_an_unknown_study_lists_those_there_are(fabricate):
    fabricate()
    with pytest.raises(PipelineError, match=r"params/studies/nope.yaml: no such file; .* mini"):
        Study.load("nope")


def test_all_mistakes_are_told_at_once(edited):
    def two(content):
        content["threads"] = 0
        content["training"]["batch_size"] = 0

    with pytest.raises(PipelineError) as error:
        edited(two)
    assert "threads:" in str(error.value) and "training.batch_size:" in str(error.value)


def test_runs_are_the_product_with_controls_on_their_own_seeds(fabricate):
    names = [run.name for run in fabricate().runs]
    assert names == [
        "shapes/tiny_net/baseline/seed0",
        "shapes/tiny_net/sar/seed0",
        "shapes/tiny_net/longer/seed0",
        "shapes/tiny_net/baseline/seed1",
        "shapes/tiny_net/sar/seed1",
        "shapes/tiny_net/longer/seed1",
        "shapes/tiny_net/baseline/seed2",
        "shapes/tiny_net/sar/seed2",
    ]


def test_an_unknown_run_lists_those_there_are(fabricate):
    with pytest.raises(PipelineError, match=r"--run shapes/seed9: .*no such run[\s\S]*sar/seed2"):
        fabricate().run("shapes/seed9")


def test_a_method_overrides_the_recipe_where_it_says_so(fabricate):
    study = fabricate()
    longer, baseline = (study.training_of("shapes", "tiny_net", m) for m in ("longer", "baseline"))
    assert longer.iterations == 40
    assert longer.optimizer == baseline.optimizer


@pytest.fixture
def two_by_two(edited):
    """A function: the study of two data sets and two models, with these `overrides`."""
    for kind, name, other in (("datasets", "shapes", "forms"), ("models", "tiny_net", "big_net")):
        text = Path(f"params/{kind}/{name}.yaml").read_text()
        Path(f"params/{kind}/{other}.yaml").write_text(text)

    def load(overrides: dict) -> Study:
        def change(content: dict) -> None:
            content |= {"datasets": ["shapes", "forms"], "models": ["tiny_net", "big_net"]}
            content["overrides"] = overrides

        return edited(change)

    return load


def test_overrides_are_merged_in_order_into_the_runs_that_they_match(two_by_two):
    study = two_by_two(
        {
            "forms": {"datasets": ["forms"], "training": {"iterations": 30, "batch_size": 3}},
            "big": {"models": ["big_net"], "training": {"optimizer": {"lr": 0.5}}},
            "both": {"datasets": ["forms"], "models": ["big_net"], "training": {"batch_size": 5}},
            "all": {"evaluation": {"batch_size": 3}},
        }
    )
    found = {
        run.name: (run.training.iterations, run.training.batch_size, run.training.optimizer.lr)
        for run in study.runs
        if run.seed == 0
    }
    assert found == {
        "shapes/tiny_net/baseline/seed0": (20, 2, 0.1),
        "shapes/tiny_net/sar/seed0": (20, 2, 0.1),
        "shapes/tiny_net/longer/seed0": (40, 2, 0.1),
        "shapes/big_net/baseline/seed0": (20, 2, 0.5),
        "shapes/big_net/sar/seed0": (20, 2, 0.5),
        "shapes/big_net/longer/seed0": (40, 2, 0.5),
        "forms/tiny_net/baseline/seed0": (30, 3, 0.1),
        "forms/tiny_net/sar/seed0": (30, 3, 0.1),
        "forms/tiny_net/longer/seed0": (40, 3, 0.1),  # what a method overrides wins
        "forms/big_net/baseline/seed0": (30, 5, 0.5),
        "forms/big_net/sar/seed0": (30, 5, 0.5),
        "forms/big_net/longer/seed0": (40, 5, 0.5),
    }
    assert {run.evaluation.batch_size for run in study.runs} == {3}
    assert study.file.training.iterations == 20


def test_a_later_override_wins_over_an_earlier_one(two_by_two):
    first = {"training": {"batch_size": 3}}
    last = {"models": ["tiny_net"], "training": {"batch_size": 4}}
    for overrides, expected in (
        ({"x": first, "a": last}, {"tiny_net": 4, "big_net": 3}),
        ({"x": last, "a": first}, {"tiny_net": 3, "big_net": 3}),
    ):
        runs = two_by_two(overrides).runs
        assert {run.model: run.training.batch_size for run in runs} == expected


def test_a_look_at_val_by_an_override_needs_that_split_and_is_named(edited):
    def change(content: dict) -> None:
        del content["training"]["validation_interval"]
        content["overrides"] = {"a": {"training": {"validation_interval": 5}}}

    edited(change)
    without("val")
    with pytest.raises(PipelineError, match=r"overrides.a.training.validation_interval: needs the"):
        edited(change)


def test_a_variant_has_the_last_word_by_an_override_of_its_own(edited):
    def change(content: dict) -> None:
        content["overrides"] = {"shapes": {"datasets": ["shapes"], "training": {"iterations": 30}}}
        small = {"small": {"training": {"iterations": 3}}}
        content["variants"] = {"small": {"overrides": small}}

    edited(change)
    assert {run.training.iterations for run in Study.load("mini").runs} == {30, 40}
    assert {run.training.iterations for run in Study.load("mini@small").runs} == {3, 40}


@pytest.mark.parametrize(
    ("key", "value", "train", "evaluate"),
    [
        ("title", "Another title", False, False),
        ("methods.sar.label", "Another label", False, False),
        ("seeds", [0, 1, 2, 3], False, False),
        ("evaluation", {"batch_size": 2}, False, True),
        ("methods.sar.options", {"pull_weight": 0.2}, True, False),
        ("training.batch_size", 4, True, False),
        # At their defaults, the keys of a training leave finished work valid.
        ("training.augmentation", {"cat_max_ratio": 0.75, "photometric": False}, False, False),
        ("training.augmentation", {"cat_max_ratio": 1.0}, True, False),
        ("training.augmentation", {"photometric": True}, True, False),
        ("training.augmentation", {"photometric": {"hue_delta": 9}}, True, False),
        ("training.schedule", {"warmup_iterations": 0, "warmup_start_factor": None}, False, False),
        ("training.diagnostics_interval", None, False, False),
        ("training.diagnostics_interval", 5, True, False),
        ("threads", 2, True, True),
        ("processes", 2, True, True),
        ("processes", 1, False, False),
        ("gpus", True, False, False),
        ("image_scale", 0.5, True, True),
        ("variants", {"large": {"threads": 4}}, False, False),
        ("workers", 2, False, False),
        ("image_cache", 0, False, False),
        ("runs_per_gpu", "auto", False, False),
        ("overrides", {"a": {"training": {"batch_size": 4}}}, True, False),
        ("overrides", {"a": {"training": {"batch_size": 2}}}, False, False),
        ("overrides", {"a": {"evaluation": {"batch_size": 2}}}, False, True),
        ("evaluation", {"multi_scale": {"scales": [0.5]}}, False, True),
        # The looks at val predict as the evaluation does.
        ("evaluation", {"base_size": [64, 64]}, True, True),
        ("claims", {"a": CLAIM}, False, False),
    ],
)
def test_parameters_change_with_what_determines_a_stage(edited, key, value, train, evaluate):
    run = "shapes/tiny_net/sar/seed0"
    before = edited(lambda content: None).run(run)
    after = edited(put(key, value)).run(run)
    changed = [
        before.parameters_hash(stage) != after.parameters_hash(stage)
        for stage in ("train", "evaluate")
    ]
    assert changed == [train, evaluate]


def test_a_driver_asks_for_what_all_processes_need(edited):
    def change(content, **more):
        content |= {"threads": 3, "processes": 2} | more

    study = edited(change)
    assert (study.run_threads, study.run_gpus) == (6, 0)
    study = edited(lambda content: change(content, gpus=True))
    assert (study.run_threads, study.run_gpus) == (6, 2)


@pytest.mark.parametrize(
    ("scale", "ratios", "base", "crop", "most"),
    [
        # mmsegmentation's recipe for PASCAL VOC, and that of Cityscapes.
        (1, [0.5, 2.0], [500, 375], [512, 512], None),
        (1, [0.5, 2.0], [2048, 512], [512, 512], None),
        (1, [0.5, 2.0], [2048, 1024], [512, 1024], None),
        # One side is enough, and equal ones are: as many pixels as there are.
        (0.25, [0.5, 2.0], [500, 375], [512, 64], None),
        (0.5, [0.5, 2.0], [500, 375], [500, 500], None),
        (0.5, [0.5, 2.0], [500, 375], [512, 512], "500 x 376"),
        (0.5, [0.75, 1.0], [1024, 2048], [513, 1025], "1024 x 512"),
    ],
)
def test_a_crop_is_no_larger_than_the_largest_image(edited, scale, ratios, base, crop, most):
    def change(content):
        content["image_scale"] = scale
        content["training"]["augmentation"] = {
            "scale_range": ratios,
            "base_size": base,
            "crop_size": crop,
        }

    if most is None:
        assert edited(change).file.training.augmentation.crop_size == crop
        return
    with pytest.raises(PipelineError) as refused:
        edited(change)
    said = str(refused.value)
    assert f"mini.yaml: training.augmentation.crop_size: {crop} (height, width)" in said
    assert f"{most} pixels (base_size {base} x image_scale 0.5 x {max(ratios):g}" in said


def test_the_crop_of_an_override_is_compared_too(edited):
    def change(content):
        content["training"]["augmentation"] = {
            "scale_range": [0.5, 1.0],
            "base_size": [64, 64],
            "crop_size": [48, 48],
        }
        own = {"augmentation": {"crop_size": [65, 65]}}
        content["overrides"] = {"wide": {"datasets": content["datasets"], "training": own}}

    with pytest.raises(PipelineError, match=r"overrides.wide.training.augmentation.crop_size: "):
        edited(change)


def test_the_batch_of_a_method_is_shared_by_the_processes_too(edited):
    def change(content):
        content["processes"] = 2
        content["methods"]["longer"]["training"] = {"batch_size": 3}

    with pytest.raises(PipelineError, match=r"methods.longer.training.batch_size: 3 images"):
        edited(change)


def test_a_study_of_another_folder_is_named_by_its_path(fabricate, tmp_path):
    fabricate()
    copy_of = tmp_path / "elsewhere" / "mine.yaml"
    copy_of.parent.mkdir()
    copy_of.write_text(Path("params/studies/mini.yaml").read_text())
    assert Study.load(str(copy_of)).name == "mine"


@pytest.mark.parametrize("stem", ["a{b}", "a$b", "a:b", "-a", ".a", "a ", "a\nb", "a*"])
def test_a_name_that_a_driver_would_read_otherwise_is_refused(fabricate, tmp_path, stem):
    fabricate()
    path = tmp_path / f"{stem}.yaml"
    path.write_text(Path("params/studies/mini.yaml").read_text())
    with pytest.raises(PipelineError, match="cannot be a study's name; expected none of"):
        Study.load(str(path))


@pytest.mark.parametrize("stem", ["o'mini é", "e\u0301", "2024"])
def test_any_other_name_is_typed_with_quotes_where_it_needs_them(fabricate, tmp_path, stem):
    fabricate()
    path = tmp_path / "my studies" / f"{stem}.yaml"
    path.parent.mkdir()
    path.write_text(Path("params/studies/mini.yaml").read_text())
    study = Study.load(str(path))
    assert shlex.split(study.argument) == [str(path)]
    assert shlex.split(study.command("track"))[-2:] == ["--study", str(path)]
    run = study.runs[0]
    assert shlex.split(run.command("train"))[-3:] == [str(path), "--run", run.name]
    assert Made("train", run).command == run.command("train")


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_an_error(fabricate, name):
    fabricate()
    with pytest.raises(PipelineError, match="expected a name, or the path to a file"):
        Study.load(name)


@pytest.mark.parametrize("path", ["mini", "params/studies/mini.yaml"])
def test_a_variant_is_the_study_with_other_values_and_results(edited, path):
    change = {"seeds": [0, 1, 7], "training": {"batch_size": 4}}
    study = edited(put("variants", {"large": change}))
    large = Study.load(f"{path}@large")
    assert (large.name, large.reference) == ("mini@large", "params/studies/mini.yaml@large")
    assert {run.seed for run in large.runs if run.method == "sar"} == {0, 1, 7}
    assert large.file.training.batch_size == 4
    assert large.file.training.iterations == study.file.training.iterations
    assert large.results != study.results and large.work != study.work
    assert Study.load(large.argument) == large


@pytest.mark.parametrize(
    ("variants", "name", "message"),
    [
        ({"large": {}}, "small", r"mini.yaml: variants: unknown 'small'; it has: large"),
        ({"large": {"seds": [1]}}, "large", r"mini.yaml@large: seds: Extra inputs"),
        ({"large": {"variants": {}}}, "large", r"variants.large holds variants"),
    ],
)
def test_a_wrong_variant_is_named(edited, variants, name, message):
    with pytest.raises(PipelineError, match=message):
        edited(put("variants", variants))
        Study.load(f"mini@{name}")


def test_declared_outputs_hold_the_wildcard_of_their_stage(fabricate):
    study = fabricate()
    for stage in DATASET_STAGES:
        assert all("{dataset}" in path for path in study.outputs(stage))
    for stage in RUN_STAGES:
        paths = study.outputs(stage)
        assert all("{run}" in path for path in paths)
        run = study.runs[0]
        assert str(run.output(stage, "receipt.json")) in [p.format(run=run.name) for p in paths]
    for stage in STUDY_STAGES:
        assert str(study.output(stage, "receipt.json")) in study.outputs(stage)


@pytest.mark.parametrize("name", [p.stem for p in (ROOT / "params/studies").glob("*.yaml")])
def test_the_projects_own_studies_are_valid(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert Study.load(name).runs
