"""Commands given at once: each does its work, or is told who does it, and results are whole."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from pipelines.analyse.stage import analyse
from pipelines.base.artifacts import sha256_file
from pipelines.base.receipts import read_receipt
from pipelines.compare.stage import compare
from pipelines.fetch.stage import fetch
from pipelines.prepare.stage import prepare
from pipelines.publish import verify
from pipelines.publish.stage import publish
from pipelines.rendering import style
from pipelines.report.stage import report
from pipelines.running.cli import guarded
from pipelines.study.places import STAGES
from pipelines.train.stage import train
from tests.pipelines import mini
from tests.pipelines.conftest import build

ROOT = Path(__file__).parents[2]

# One process for all: what they share is expensive.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("at once")]


def at_once(*commands: Callable[[], None]) -> list[tuple[int, str]]:
    """Status and output of each, of processes that begin at the same moment."""
    read, write = os.pipe()
    children = []
    for command in commands:
        output = tempfile.TemporaryFile()  # noqa: SIM115 (open until the child has ended)
        pid = os.fork()
        if pid == 0:
            _child(command, output.fileno(), read, write)
        children.append((pid, output))
    os.close(read)
    os.close(write)  # Now each of them reads that there is nothing more to wait for.
    done = []
    for pid, output in children:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        output.seek(0)
        done.append((status, output.read().decode()))
    return done


def _child(command: Callable[[], None], output: int, read: int, write: int) -> None:
    os.close(write)
    os.read(read, 1)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    status = 70
    try:
        status = guarded(command)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def check_results(folder: Path) -> None:
    """Every receipt below `folder` fits, and nothing else was left there."""
    receipts = sorted(folder.rglob("receipt.json"))
    assert receipts
    for path in receipts:
        receipt = read_receipt(path)
        assert {n: sha256_file(path.parent / n) for n in receipt.outputs} == receipt.outputs
    assert not list(folder.rglob(".*"))


def check_done_or_refused(done: list[tuple[int, str]]) -> None:
    assert 0 in {status for status, _ in done}, done
    for status, said in done:
        assert status == 0 or (status == 2 and "another process (" in said), said
        assert "Traceback" not in said


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The study `mini` with eight runs, fetched."""
    monkeypatch.chdir(tmp_path)
    training = mini.study_file()["training"] | {"iterations": 2, "validation_interval": None}
    mini.write_params(tmp_path, seeds=[0, 1, 2, 3], training=training)
    study = mini.load()
    fetch(study.datasets["mini"])
    return study


def test_a_data_set_is_prepared_once_at_a_time(project):
    dataset = project.datasets["mini"]
    prepare(dataset)
    alone = dataset.receipt.read_bytes()
    for _ in range(3):
        check_done_or_refused(at_once(*3 * [lambda: prepare(dataset)]))
        check_results(Path("data"))
        assert dataset.receipt.read_bytes() == alone


def test_eight_trainings_do_not_meet_and_two_of_one_run_do(project):
    prepare(project.datasets["mini"])
    runs = project.runs
    assert len(runs) == 8
    done = at_once(*(lambda run=run: train(run) for run in [*runs, runs[0]]))
    assert [status for status, _ in done[1:-1]] == [0] * 7, done
    check_done_or_refused([done[0], done[-1]])
    check_results(Path("results"))
    assert not list(Path("work").rglob("*.pth*"))
    together = runs[1].output("train", "receipt.json").read_bytes()
    train(runs[1])
    assert runs[1].output("train", "receipt.json").read_bytes() == together


def test_tables_are_made_once_at_a_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = build()
    check_done_or_refused(at_once(*4 * [lambda: compare(study)]))
    check_results(Path("results"))


def test_what_is_published_is_checked_before_or_after_and_not_meanwhile(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save = style.save
    monkeypatch.setattr(style, "save", lambda _, *at: save(Figure(figsize=(0.1, 0.1)), *at))
    study = build()
    Path("README.md").write_text("<!-- table:mini -->\n<!-- /table:mini -->\n")
    for stage in (compare, analyse, report, publish):
        stage(study)
    done = at_once(verify.verify, *2 * [lambda: publish(study)], verify.verify)
    assert [status for status, _ in done] == [0] * 4, done
    assert not list(Path("reports").glob(".*"))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_outlives_its_snakemake_is_seen(tmp_path, stage):
    """The lock of a killed Snakemake is removed only where nothing goes on."""
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines/__init__.py").touch()  # else an installed package comes before it
    (tmp_path / f"pipelines/{stage}.py").write_text("print('here', flush=True)\ninput()\n")
    (tmp_path / ".snakemake/locks").mkdir(parents=True)
    (tmp_path / ".snakemake/locks/0.output.lock").touch()
    left = subprocess.Popen(
        [sys.executable, "-m", f"pipelines.{stage}"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert left.stdout.readline() == b"here\n"
        second = subprocess.run(
            [sys.executable, ROOT / "workflow/alone.py", "-n"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        left.communicate(b"\n")
    assert second.returncode == 2
    assert "this folder is locked, and somebody works in it" in second.stderr
    assert f"process {left.pid}:" in second.stderr
