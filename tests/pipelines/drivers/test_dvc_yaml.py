"""The committed dvc.yaml files are current, and say what Snakemake's rules say."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys

import pytest
from ruamel.yaml import YAML

from pipelines.drivers import dvc_yaml
from pipelines.study import Study
from tests.pipelines import mini
from tests.scenarios import project


def test_the_committed_files_are_current(monkeypatch):
    monkeypatch.chdir(mini.ROOT)
    stale = dvc_yaml.stale()
    assert not stale, f"make dvc writes them again:\n{stale}"


def test_a_name_is_quoted_and_a_placeholder_of_dvc_is_not():
    line = dvc_yaml.command("train", study="params/studies/o'my.yaml", run="${item.dataset}/a")
    assert line == (
        "python -m pipelines.train --study 'params/studies/o'\"'\"'my.yaml' --run ${item.dataset}/a"
    )


def test_a_stage_depends_on_the_overrides_of_its_model(monkeypatch):
    monkeypatch.chdir(mini.ROOT)
    study = Study.load("paper")
    stages = YAML(typ="safe").load(dvc_yaml.render_study(study))["stages"]

    def overrides(stage: str) -> set[str]:
        [keys] = [part[study.path.as_posix()] for part in stages[stage]["params"][:1]]
        return {key.removeprefix("overrides.") for key in keys if key.startswith("overrides.")}

    data = {"ade20k", "pascal_context"}
    assert overrides("train-fcn_hr48-sar") == data
    assert overrides("train-upernet_swin_t-sar") == data | {"transformers", "swin"}
    assert overrides("evaluate-upernet_swin_t-sar") == data
    assert overrides("evaluate-segformer_b2-baseline") == data | {"segformer_cityscapes"}


def test_evaluation_depends_on_the_subsets_that_it_asks_for(monkeypatch):
    monkeypatch.chdir(mini.ROOT)
    study = Study.load("reports/archive/camvid/study.yaml")
    card = {"params/datasets/camvid.yaml": ["subsets"]}

    def params(stage: str) -> list:
        stages = YAML(typ="safe").load(dvc_yaml.render_study(study))["stages"]
        return stages[f"{stage}-fcn_hrnet_small-sar"]["params"]

    assert card not in params("evaluate")
    evaluation = study.file.evaluation.model_copy(update={"subsets": ["seq05vd"]})
    file = study.file.model_copy(update={"evaluation": evaluation})
    study = dataclasses.replace(study, file=file)
    assert card in params("evaluate") and card not in params("train")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs")
    project.create(folder)
    return folder


def test_a_stale_file_is_an_error_that_shows_the_difference(folder):
    check = [sys.executable, "-m", "pipelines.drivers.dvc_yaml", "--check"]
    path = folder / project.DVC_FILE
    text = path.read_text()
    try:
        path.write_text(text.replace("threads", "fibres"))
        done = subprocess.run(check, cwd=folder, capture_output=True, text=True)
    finally:
        path.write_text(text)
    assert done.returncode == 2
    assert "make dvc" in done.stderr
    assert "-          - fibres\n+          - threads\n" in done.stderr
    project.python(folder, *check[1:])


def test_dvc_reads_the_chosen_study_and_no_other(folder):
    other = folder / "params/studies/other.yaml"
    shutil.copy(folder / project.STUDY, other)
    write = ("-m", "pipelines.drivers.dvc_yaml")
    listed = ("stage", "list", "--all", "--name-only")
    try:
        project.python(folder, *write)
        project.python(folder, *write, "--only", "other")
        chosen = project.dvc(folder, *listed)
        assert "workflow/dvc/other/dvc.yaml:report" in chosen
        assert "workflow/dvc/mini/dvc.yaml" not in chosen
        assert "prepare-mini" in chosen
        project.python(folder, *write, "--all")
        assert "workflow/dvc/mini/dvc.yaml:report" in project.dvc(folder, *listed)
    finally:
        other.unlink()
        shutil.rmtree(folder / "workflow/dvc/other")


STAGES = """
import json
from dvc.repo import Repo

root = Repo().root_dir

def paths(items):
    return [item.def_path for item in items]

stages = {}
for stage in Repo().index.stages:
    deps = [dep for dep in stage.deps if not hasattr(dep, "params")]
    stages[stage.cmd] = {"deps": paths(deps), "outs": paths(stage.outs)}
print(json.dumps(stages))
"""


def test_both_drivers_know_the_same_graph(folder):
    """By (stage, run): commands, outputs, and inputs, where DVC may name a folder of files.

    Code is a parameter of Snakemake's rules and a dependency of DVC's stages: the same files.
    """
    dvc = same_graph(folder)
    assert {stage for stage, _ in dvc} == {
        *("fetch", "prepare", "train", "evaluate", "compare", "analyse", "report")
    }
    assert ("train", "mini/fcn_hrnet_tiny/longer/seed0") in dvc


def test_both_drivers_fetch_weights_for_the_trainings_that_start_from_them(folder):
    entry = folder / f"params/models/{mini.MODEL}.yaml"
    text = entry.read_text()
    dvc_file = folder / "params/models/dvc.yaml"
    try:
        entry.write_text(f"{text}precision: bf16\npretrained: {json.dumps(PRETRAINED)}\n")
        project.python(folder, "-m", "pipelines.drivers.dvc_yaml")
        dvc = same_graph(folder)
        assert dvc["fetch", mini.MODEL]["outs"] == [
            f"data/weights/{mini.MODEL}/{name}"
            for name in ("backbone.safetensors", "receipt.json", "runtime.json")
        ]
        receipt = f"data/weights/{mini.MODEL}/receipt.json"
        needing = {stage for (stage, _), graph in dvc.items() if receipt in graph["deps"]}
        assert needing == {"train"}
        deps = dvc["train", f"mini/{mini.MODEL}/sar/seed0"]["deps"]
        options = {f"pipelines/train/options/{name}.py" for name in ("pretrained", "precision")}
        assert options <= set(deps)
        assert "pipelines/train/options/accumulation.py" not in deps
        # Not the addresses, which decide nothing.
        assert "pretrained.sha256" in dvc_file.read_text()
        assert "urls" not in dvc_file.read_text() + (folder / project.DVC_FILE).read_text()
    finally:
        entry.write_text(text)
        dvc_file.unlink(missing_ok=True)
        project.python(folder, "-m", "pipelines.drivers.dvc_yaml")


def test_both_drivers_know_the_points_of_a_grid(folder):
    study = folder / project.STUDY
    text = study.read_text()
    content = json.loads(text)
    sar = content["methods"]["sar"] | {"options": {"aux_weight": 1.0}}
    swept = sar | {"grid": {"pull_weight": [0.01, 1], "training.optimizer.lr": [0.1]}}
    methods = {"baseline": content["methods"]["baseline"], "sar": swept}
    try:
        study.write_text(json.dumps(content | {"kind": "sensitivity", "methods": methods}))
        project.python(folder, "-m", "pipelines.drivers.dvc_yaml")
        dvc = same_graph(folder)
        points = [f"sar-pull_weight-{word}-optimizer_lr-1e-1" for word in ("1e-2", "1")]
        for point in points:
            assert ("train", f"mini/{mini.MODEL}/{point}/seed0") in dvc
        stages = YAML(typ="safe").load((folder / project.DVC_FILE).read_text())["stages"]
        [keys, *_] = stages[f"train-{mini.MODEL}-{points[0]}"]["params"][0].values()
        assert {"methods.sar.plugin", "methods.sar.options"} <= set(keys)
        assert not [key for key in keys if "grid" in key], "a further point leaves the others"
        [keys, *_] = stages["compare"]["params"][0].values()
        assert "methods.sar.grid" in keys
    finally:
        study.write_text(text)
        project.python(folder, "-m", "pipelines.drivers.dvc_yaml")


PRETRAINED = {"file": "net.pth", "urls": ["http://127.0.0.1:9/net.pth"], "sha256": "0123abcd"}


CODE = """
import json
from pipelines.drivers.code import code_files
from pipelines.study import DATASET_STAGES, RUN_STAGES, STUDY_STAGES, Study

study = Study.load("mini")
found = [(("fetch", model), code_files("weights")) for model in study.weights]
found += [((stage, name), code_files(stage)) for stage in DATASET_STAGES for name in study.datasets]
found += [((stage, run.name), code_files(stage, run)) for stage in RUN_STAGES for run in study.runs]
found += [((stage, study.name), code_files(stage)) for stage in STUDY_STAGES]
print(json.dumps([(key, [path.as_posix() for path in paths]) for key, paths in found]))
"""


def same_graph(folder) -> dict:
    """The graph that both drivers know, by (stage, subject)."""
    snakemake = project.snakemake_plan(folder)
    dvc = {
        project.subject(command): graph | {"command": command}
        for command, graph in json.loads(project.python(folder, "-c", STAGES)).items()
    }
    assert snakemake.keys() == dvc.keys()
    code = {tuple(key): paths for key, paths in json.loads(project.python(folder, "-c", CODE))}
    assert code.keys() == dvc.keys()
    for key, (command, inputs, outputs) in snakemake.items():
        assert command == dvc[key]["command"]
        assert outputs == set(dvc[key]["outs"])
        assert code[key] and set(code[key]) <= set(dvc[key]["deps"])
        folders = {path for path in dvc[key]["deps"] if (folder / path).is_dir()}
        folders |= {"results/mini/runs"} & set(dvc[key]["deps"])
        files = set(dvc[key]["deps"]) - folders - set(code[key])
        below = {path for path in inputs if any(path.startswith(f"{f}/") for f in folders)}
        assert inputs - below == files
        assert all(any(path.startswith(f"{f}/") for path in below) for f in folders)
    return dvc
