"""The committed dvc.yaml files are current, and say what Snakemake's rules say."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pipelines import dvc_yaml
from tests.drivers import project
from tests.pipelines import mini


def test_the_committed_files_are_current(monkeypatch):
    monkeypatch.chdir(mini.ROOT)
    stale = dvc_yaml.stale()
    assert not stale, f"make dvc writes them again:\n{stale}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs")
    project.create(folder)
    return folder


def test_a_stale_file_is_an_error_that_shows_the_difference(folder):
    check = [sys.executable, "-m", "pipelines.dvc_yaml", "--check"]
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
    """By (stage, run): commands, outputs, and inputs, where DVC may name a folder of files."""
    snakemake = project.snakemake_plan(folder)
    dvc = {
        project.subject(command): graph | {"command": command}
        for command, graph in json.loads(project.python(folder, "-c", STAGES)).items()
    }
    assert {stage for stage, _ in dvc} == {
        *("fetch", "prepare", "train", "evaluate", "compare", "analyse", "report")
    }
    assert ("train", "mini/fcn_hrnet_tiny/longer/seed0") in dvc
    assert snakemake.keys() == dvc.keys()
    for key, (command, inputs, outputs) in snakemake.items():
        assert command == dvc[key]["command"]
        assert outputs == set(dvc[key]["outs"])
        folders = {path for path in dvc[key]["deps"] if (folder / path).is_dir()}
        folders |= {"results/mini/runs"} & set(dvc[key]["deps"])
        files = set(dvc[key]["deps"]) - folders
        below = {path for path in inputs if any(path.startswith(f"{f}/") for f in folders)}
        assert inputs - below == files
        assert all(any(path.startswith(f"{f}/") for path in below) for f in folders)
