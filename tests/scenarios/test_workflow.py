"""Snakemake runs a whole study in miniature, from nothing to the report; and one that fails."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.running.finished import to_make
from pipelines.study import DATASET_STAGES, RUN_STAGES, STUDY_STAGES, Run
from tests.pipelines import mini

RECIPE = {"iterations": 2, "validation_interval": None, "checkpoint_interval": 1}
BROKEN = '''
import atexit
import os
import signal
import sys

TRAINING = "pipelines.train" in sys.orig_argv


def kill(model_cfg):
    """End the training as the kernel does where memory runs out."""
    if TRAINING:
        os.kill(os.getpid(), signal.SIGKILL)
    return model_cfg


def fail_late(model_cfg):
    """Fail when all outputs are written."""
    if TRAINING:
        atexit.register(os._exit, 3)
    return model_cfg


def apply(model_cfg):
    """Pass every check before training, and fail in its first iteration."""
    if not TRAINING:
        return model_cfg
    model_cfg["decode_head"]["loss_decode"]["class_weight"] = [1.0, 1.0]
    return model_cfg


def diverge(model_cfg):
    """Give a loss that is not finite."""
    if not TRAINING:
        return model_cfg
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


def alone(folder: Path) -> subprocess.CompletedProcess:
    """As `make reproduce` calls Snakemake."""
    return called(folder, *ALONE, *ARGUMENTS)


def write_study(folder: Path, **changes) -> None:
    study = mini.study_file() | changes
    mini.write_params(folder, **changes, training=study["training"] | RECIPE)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which the study `mini` ran from data to report."""
    folder = tmp_path_factory.mktemp("finished") / "My Projects" / "é"
    write_study(folder)
    done = alone(folder)
    assert done.returncode == 0, done.stderr[-4000:]
    (folder / "console.txt").write_text(done.stdout + done.stderr)
    return folder


def test_the_console_shows_a_line_a_run_and_the_logs_the_rest(finished):
    console = (finished / "console.txt").read_text()
    runs = re.findall(r"\[./2\] mini/fcn_hrnet_tiny/(\w+)/seed0: mIoU [\d.]+ %", console)
    assert sorted(runs) == ["baseline", "sar"]
    assert len(console.splitlines()) < 15
    logs = "".join(path.read_text() for path in finished.glob("work/mini/logs/**/*.log"))
    assert "Iter(train) [2/2]" in logs and "Iter(train)" not in console
    assert "OneDL" not in logs + console
    table = "| Baseline |"
    assert (logs.count(table), console.count(table)) == (1, 0)  # `make` shows it at the end


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


def forget(folder: Path) -> None:
    """Let Snakemake know nothing of its work, as where all was made by hand."""
    shutil.rmtree(folder / ".snakemake")


def change_number(folder: Path) -> None:
    path = folder / SAR / "evaluate/metrics.json"
    path.write_text(re.sub(r'"mIoU": [\d.]+', '"mIoU": 99.9', path.read_text()))
    os.utime(path, (0, 0))


def train_longer(folder: Path) -> None:
    forget(folder)
    path = folder / "params/studies/mini.yaml"
    path.write_text(path.read_text().replace('"lr": 0.05', '"lr": 0.01'))


def prepare_by_another_card(folder: Path) -> None:
    forget(folder)
    path = folder / "params/datasets/mini.yaml"
    path.write_text(path.read_text().replace('"background"', '"ground"'))


SAR = "results/mini/runs/mini/fcn_hrnet_tiny/sar/seed0"
OF_RUNS = {"evaluate", "compare", "analyse", "report"}
BY_HAND = {
    "without records": (forget, set(), 0),
    "without data": (lambda f: shutil.rmtree(f / "data"), set(), 0),
    "a run removed": (lambda f: shutil.rmtree(f / SAR), {"train", *OF_RUNS}, 1),
    "weights removed": (
        lambda folder: (folder / SAR / "train/weights.safetensors").unlink(),
        {"train", *OF_RUNS},
        1,
    ),
    "a number changed": (change_number, OF_RUNS, 1),
    "another learning rate": (train_longer, {"train", *OF_RUNS}, 2),
    "another card": (prepare_by_another_card, {"prepare", "train", *OF_RUNS}, 2),
    "a table changed": (
        lambda folder: (folder / "results/mini/compare/claims.csv").write_text("x"),
        {"compare", "report"},
        0,
    ),
}


@pytest.mark.parametrize("deed", BY_HAND)
def test_what_was_done_by_hand_is_planned_as_the_plan_says(finished, tmp_path, monkeypatch, deed):
    do, rules, runs_to_do = BY_HAND[deed]
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    do(folder)
    planned = snakemake(folder, "--dry-run")
    assert planned.returncode == 0, planned.stderr
    output = planned.stdout + planned.stderr
    named = set(re.findall(r"^(?:local)?rule (\w+):$", output, flags=re.MULTILINE))
    assert named == (rules | {"all"} if rules else set())
    monkeypatch.chdir(folder)
    to_do = {made.subject.name for made, _ in to_make(mini.load()) if isinstance(made.subject, Run)}
    assert len(to_do) == runs_to_do


def test_a_study_of_the_same_name_elsewhere_is_refused_before_any_job(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    (folder / "mine").mkdir()
    shutil.copy(folder / "params/studies/mini.yaml", folder / "mine")
    other = [*ARGUMENTS[:-1], "study=mine/mini.yaml", "--dry-run"]
    refused = called(folder, sys.executable, "-m", "snakemake", *other)
    told = refused.stdout + refused.stderr
    assert refused.returncode != 0 and "Traceback" not in told
    assert "params/studies/mini.yaml, and mine/mini.yaml has the same name" in told


def test_a_stage_that_outlives_its_snakemake_keeps_the_lock(tmp_path):
    (tmp_path / ".snakemake/locks").mkdir(parents=True)
    (tmp_path / ".snakemake/locks/0.output.lock").write_text("results/mini/analyse/receipt.json\n")
    orphans = [
        subprocess.Popen(
            [sys.executable, "-m", f"pipelines.{stage}"], cwd=tmp_path, env=environment(tmp_path)
        )
        for stage in (*DATASET_STAGES, *RUN_STAGES, *STUDY_STAGES)
    ]
    try:
        for orphan in orphans:
            orphan.send_signal(signal.SIGSTOP)
        done = called(tmp_path, *ALONE, *ARGUMENTS, "--dry-run")
    finally:
        for orphan in orphans:
            orphan.kill()
            orphan.wait()
    assert (done.returncode, done.stdout) == (2, "")
    assert "this folder is locked, and somebody works in it" in done.stderr
    for orphan in orphans:
        assert f"process {orphan.pid}: " in done.stderr


def test_a_run_asks_for_the_cores_and_gpus_of_all_its_processes(tmp_path):
    write_study(tmp_path, processes=2, gpus=True)
    planned = snakemake(tmp_path, "--dry-run", "--resources", "gpu=4")
    jobs = re.findall(r"^rule (\w+):\n((?: +.*\n)+)", planned.stdout, flags=re.MULTILINE)
    asked = {rule: ("threads: 2" in job, "gpu=2" in job) for rule, job in jobs}
    asked = {rule: asked[rule] for rule in ("train", "evaluate", "compare")}
    assert asked == {"train": (True, True), "evaluate": (True, True), "compare": (False, False)}


@pytest.mark.parametrize(("shared", "parts"), [(1, 2), (3, 6)])
def test_snakemake_counts_the_parts_of_gpus_that_runs_share(tmp_path, shared, parts):
    """Two GPUs, of which a run takes one or a third."""
    write_study(tmp_path, gpus=True, runs_per_gpu=shared)
    done = snakemake(tmp_path, "--until", "fetch", "--resources", "gpu=2")
    assert re.search(rf"^Provided resources: gpu=.*\b{parts}\b", done.stderr, re.MULTILINE)


def test_a_failed_run_leaves_the_others_and_a_partial_report(tmp_path):
    methods = mini.study_file()["methods"]
    methods["broken"] = {"label": "Broken", "plugin": "broken:apply"}
    methods["divergent"] = {"label": "Divergent", "plugin": "broken:diverge"}
    methods["killed"] = {"label": "Killed", "plugin": "broken:kill"}
    methods["late"] = {"label": "Late", "plugin": "broken:fail_late"}
    write_study(tmp_path, methods=methods)
    (tmp_path / "broken.py").write_text(BROKEN)
    done = alone(tmp_path)
    assert done.returncode != 0
    assert not (tmp_path / "results/mini/report/receipt.json").exists()
    evaluated = {path.parts[-4] for path in tmp_path.glob("results/**/metrics.json")}
    assert evaluated == {"baseline", "sar"}
    partial = (tmp_path / "work/mini/report-partial/report.md").read_text()
    assert "completed successfully" not in done.stdout + done.stderr
    reasons = {
        "broken": "exit status 1: RuntimeError: weight tensor should be defined",
        "divergent": "the loss is not finite after iteration 1: decode.loss_ce = nan",
        "killed": "ended by SIGKILL",
        "late": "exit status 3: ",
    }
    for method, reason in reasons.items():
        run = f"mini/fcn_hrnet_tiny/{method}/seed0"
        assert run in partial
        assert not list(tmp_path.glob(f"results/mini/runs/{run}/*/receipt.json"))
        log = f"work/mini/logs/{run}/train.log"
        last = (tmp_path / log).read_text().splitlines()[-1]
        assert last.startswith(f"train failed ({log}): ") and reason in last, last
        assert f"FAILED: train {run} ({log})" in done.stderr and reason in done.stderr


def test_a_wrong_study_is_one_message_before_any_job(tmp_path):
    write_study(tmp_path, seeds=[0, 0])
    done = snakemake(tmp_path)
    assert done.returncode != 0
    assert "params/studies/mini.yaml: seeds: 0 stands here twice" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("studdy=mini", "--config studdy: no such key; expected study=NAME; did you mean"),
        ("study=", "--config study=: is empty"),
        ("study=x;touch Y", "params/studies/x;touch Y.yaml: no such file"),
    ],
)
def test_a_wrong_config_is_one_message(finished, words, message):
    done = called(finished, sys.executable, "-m", "snakemake", *ARGUMENTS[:-1], words, "--dry-run")
    assert done.returncode != 0
    output = done.stdout + done.stderr
    assert message in output and "Traceback" not in output
    assert not (finished / "Y").exists()


def test_a_folder_whose_name_snakemake_would_read_is_named(tmp_path):
    folder = tmp_path / "{run} 1"
    folder.mkdir()
    shutil.copy(mini.ROOT / "Snakefile", folder)
    done = called(folder, sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run")
    assert done.returncode != 0
    assert f"{folder}: Snakemake takes braces" in done.stdout + done.stderr


def test_a_study_s_path_with_a_space_and_a_quote(finished):
    path = finished / "my studies" / "o'mini é.yaml"
    path.parent.mkdir()
    path.write_text((finished / "params/studies/mini.yaml").read_text())
    study = f"study={path.relative_to(finished)}"
    # One command that is given the study; its data is there already.
    target = f"results/{path.stem}/runs/mini/fcn_hrnet_tiny/baseline/seed0/train/receipt.json"
    done = called(finished, sys.executable, "-m", "snakemake", target, *ARGUMENTS[:-1], study)
    assert done.returncode == 0, done.stderr[-4000:]
    assert (finished / target).is_file()


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
        second = alone(tmp_path)
        assert (second.returncode, second.stdout) == (2, "")
        assert "another call works in this folder" in second.stderr
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        # The training is still there, and it would go on.
        third = alone(tmp_path)
        assert third.returncode == 2
        assert re.search(r"process \d+: .*-m pipelines\.train", third.stderr), third.stderr
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    refused = snakemake(tmp_path)
    assert refused.returncode != 0
    assert "--unlock" in refused.stderr
    last = alone(tmp_path)
    assert last.returncode == 0, last.stderr[-4000:]
    assert "removing the lock" in last.stderr

    def receipts(folder):
        return {
            p.relative_to(folder): p.read_bytes()
            for p in folder.glob("results/mini/**/receipt.json")
        }

    assert len(receipts(tmp_path)) == 7
    assert receipts(tmp_path) == receipts(finished)
