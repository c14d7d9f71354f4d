"""Snakemake runs a whole study in miniature, from nothing to the report; and one that fails."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipelines import mini

RECIPE = {"iterations": 2, "validation_interval": None, "checkpoint_interval": 1}
BROKEN = '''
def apply(model_cfg):
    """Pass every check before training, and fail in its first iteration."""
    model_cfg["decode_head"]["loss_decode"]["class_weight"] = [1.0, 1.0]
    return model_cfg
'''


def snakemake(folder: Path, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "snakemake", "--snakefile", mini.ROOT / "Snakefile"]
    return subprocess.run(
        [*command, "--cores", "2", "--config", "study=mini", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{mini.ROOT}{os.pathsep}{folder}"},
        capture_output=True,
        text=True,
        timeout=600,
    )


def write_study(folder: Path, **changes) -> None:
    study = mini.study_file() | changes
    mini.write_params(folder, **changes, training=study["training"] | RECIPE)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which the study `mini` ran from data to report."""
    folder = tmp_path_factory.mktemp("finished")
    write_study(folder)
    done = snakemake(folder)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def test_a_study_runs_from_nothing_to_its_report(finished):
    report = finished / "results/mini/report"
    assert "| SAR" in (report / "table.md").read_text()
    assert (report / "gallery.png").stat().st_size > 1000
    assert (finished / "mlflow.db").is_file()


def test_a_second_call_plans_nothing(finished):
    again = snakemake(finished, "--dry-run")
    assert "Nothing to be done" in again.stdout + again.stderr


@pytest.mark.parametrize(
    ("old", "new", "rules"),
    [
        ('"label": "SAR"', '"label": "SAR (ours)"', {"report"}),
        ('"gallery": 2', '"gallery": 1', {"evaluate", "compare", "analyse", "report"}),
        ('"lr": 0.05', '"lr": 0.06', {"train", "evaluate", "compare", "analyse", "report"}),
    ],
)
def test_a_change_runs_again_what_depends_on_it(finished, old, new, rules):
    study = finished / "params/studies/mini.yaml"
    content = study.read_text()
    assert old in content
    try:
        study.write_text(content.replace(old, new))
        planned = snakemake(finished, "--dry-run")
        output = planned.stdout + planned.stderr
        named = set(re.findall(r"^(?:local)?rule (\w+):$", output, flags=re.MULTILINE))
        assert named == rules | {"all"}
    finally:
        study.write_text(content)


def test_a_failed_run_leaves_the_others_and_a_partial_report(tmp_path):
    methods = mini.study_file()["methods"]
    methods["broken"] = {"label": "Broken", "plugin": "broken:apply"}
    write_study(tmp_path, methods=methods)
    (tmp_path / "broken.py").write_text(BROKEN)
    done = snakemake(tmp_path)
    assert done.returncode != 0
    assert not (tmp_path / "results/mini/report/receipt.json").exists()
    evaluated = {path.parts[-4] for path in tmp_path.glob("results/**/metrics.json")}
    assert evaluated == {"baseline", "sar"}
    partial = (tmp_path / "work/mini/report-partial/report.md").read_text()
    assert "mini/fcn_hrnet_tiny/broken/seed0" in partial


def test_a_wrong_study_is_one_message_before_any_job(tmp_path):
    write_study(tmp_path, seeds=[0, 0])
    done = snakemake(tmp_path)
    assert done.returncode != 0
    assert "params/studies/mini.yaml: seeds: 0 stands here twice" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_plugin_that_refuses_stops_the_study_before_any_job(tmp_path):
    methods = mini.study_file()["methods"]
    methods["sar"]["options"] = {"pull": 0.1}
    write_study(tmp_path, methods=methods)
    done = snakemake(tmp_path)
    assert done.returncode != 0
    assert "params/studies/mini.yaml: methods.sar.plugin" in done.stderr
    assert not (tmp_path / "data").exists()
