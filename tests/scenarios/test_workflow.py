"""Snakemake runs a whole study in miniature, from nothing to the report; and one that fails."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.pipelines import mini

RECIPE = {"iterations": 2, "validation_interval": None, "checkpoint_interval": 1}
BROKEN = '''
def apply(model_cfg):
    """Pass every check before training, and fail in its first iteration."""
    model_cfg["decode_head"]["loss_decode"]["class_weight"] = [1.0, 1.0]
    return model_cfg


def diverge(model_cfg):
    """Give a loss that is not finite."""
    model_cfg["decode_head"]["loss_decode"]["class_weight"] = [float("nan")] * 11
    return model_cfg
'''


ALONE = [sys.executable, mini.ROOT / "workflow/alone.py"]
ARGUMENTS = ["--snakefile", mini.ROOT / "Snakefile", "--cores", "2", "--config", "study=mini"]


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{mini.ROOT}{os.pathsep}{folder}"}


def called(folder: Path, *words) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*words],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=3600,
    )


def snakemake(folder: Path, *words: str) -> subprocess.CompletedProcess:
    return called(folder, sys.executable, "-m", "snakemake", *ARGUMENTS, *words)


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
    assert (report / "figures/gallery.png").stat().st_size > 1000
    assert (finished / "mlflow.db").is_file()


def test_a_second_call_plans_nothing(finished):
    again = snakemake(finished, "--dry-run")
    assert "Nothing to be done" in again.stdout + again.stderr


def test_snakemake_s_own_report_has_tables_and_figures_with_captions(finished):
    done = snakemake(finished, "--report", "snakemake.html")
    assert done.returncode == 0, done.stderr[-4000:]
    page = (finished / "snakemake.html").read_text(encoding="utf-8")
    for words in ("One study of semantic anchors", "Scores of all compared methods in percent"):
        assert words in page
    for name in ("table.csv", "per_class.csv", "claims.csv", "figures/per_class.svg"):
        assert f"results/mini/report/{name}" in page, name


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


def test_a_run_asks_for_the_cores_and_gpus_of_all_its_processes(tmp_path):
    write_study(tmp_path, processes=2, gpus=True)
    planned = snakemake(tmp_path, "--dry-run", "--resources", "gpu=4")
    jobs = re.findall(r"^rule (\w+):\n((?: +.*\n)+)", planned.stdout, flags=re.MULTILINE)
    asked = {rule: ("threads: 2" in job, "gpu=2" in job) for rule, job in jobs}
    asked = {rule: asked[rule] for rule in ("train", "evaluate", "compare")}
    assert asked == {"train": (True, True), "evaluate": (True, True), "compare": (False, False)}


def test_a_failed_run_leaves_the_others_and_a_partial_report(tmp_path):
    methods = mini.study_file()["methods"]
    methods["broken"] = {"label": "Broken", "plugin": "broken:apply"}
    methods["divergent"] = {"label": "Divergent", "plugin": "broken:diverge"}
    write_study(tmp_path, methods=methods)
    (tmp_path / "broken.py").write_text(BROKEN)
    done = snakemake(tmp_path)
    assert done.returncode != 0
    assert not (tmp_path / "results/mini/report/receipt.json").exists()
    evaluated = {path.parts[-4] for path in tmp_path.glob("results/**/metrics.json")}
    assert evaluated == {"baseline", "sar"}
    partial = (tmp_path / "work/mini/report-partial/report.md").read_text()
    assert "mini/fcn_hrnet_tiny/broken/seed0" in partial
    assert "mini/fcn_hrnet_tiny/divergent/seed0" in partial
    log = tmp_path / "work/mini/logs/mini/fcn_hrnet_tiny/divergent/seed0/train.log"
    assert "the loss is not finite after iteration 1: decode.loss_ce = nan" in log.read_text()


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


@pytest.mark.slow
def test_a_killed_study_is_finished_by_the_same_call_and_by_one_at_a_time(finished, tmp_path):
    write_study(tmp_path)
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(
            [*ALONE, *ARGUMENTS],
            cwd=tmp_path,
            env=environment(tmp_path),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        while not list(tmp_path.glob("work/**/iter_1.pth")):
            assert process.poll() is None, (tmp_path / "output").read_text()
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGSTOP)
        second = called(tmp_path, *ALONE, *ARGUMENTS)
        assert (second.returncode, second.stdout) == (2, "")
        assert "another call works in this folder" in second.stderr
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        # The training is still there, and it would go on.
        third = called(tmp_path, *ALONE, *ARGUMENTS)
        assert third.returncode == 2
        assert re.search(r"process \d+: .*-m pipelines\.train", third.stderr), third.stderr
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    refused = snakemake(tmp_path)
    assert refused.returncode != 0
    assert "--unlock" in refused.stderr
    last = called(tmp_path, *ALONE, *ARGUMENTS)
    assert last.returncode == 0, last.stderr[-4000:]
    assert "removing the lock" in last.stderr

    def receipts(folder):
        return {
            p.relative_to(folder): p.read_bytes() for p in folder.glob("results/**/receipt.json")
        }

    assert len(receipts(tmp_path)) == 7
    assert receipts(tmp_path) == receipts(finished)
