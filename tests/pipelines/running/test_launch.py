"""A command in several processes: how it fails, how it is ended, and that nothing outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.base.errors import PipelineError
from pipelines.running.launch import in_processes
from tests.pipelines import mini

JOB = """
import os, sys, time
from pathlib import Path
from pipelines.running.cli import chosen_runs, guarded, stage_parser
from pipelines.base.errors import PipelineError
from pipelines.running.launch import in_processes
from pipelines.running.processes import rank

def action(run):
    Path(f"{rank()}.new").write_text(str(os.getpid()))
    os.rename(f"{rank()}.new", f"{rank()}.pid")
    if "REFUSE" in os.environ and rank() == 1:
        raise PipelineError("the second one does not want to")
    time.sleep(600)

args = stage_parser("job", None, runs=True).parse_args()
sys.exit(guarded(lambda: in_processes("job", None, chosen_runs(args), action, "objects")))
"""
RUN = f"mini/{mini.MODEL}/sar/seed0"


@pytest.fixture
def job(tmp_path):
    """A function that starts a command in two processes, which both sleep."""
    mini.write_params(tmp_path, processes=2)
    (tmp_path / "job.py").write_text(JOB)
    started = []

    def start(**environment: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "job", "--study", "mini", "--run", RUN],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(mini.ROOT)} | environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def workers(folder: Path) -> list[int]:
    """The process ids of both workers, once they are at work."""
    files = [folder / f"{rank}.pid" for rank in range(2)]
    _until(lambda: all(file.exists() for file in files))
    return [int(file.read_text()) for file in files]


def _until(condition) -> None:
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def _is_gone(pid: int) -> bool:
    try:
        return " Z " in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.slow
def test_an_error_of_one_process_ends_all_and_is_told(job, tmp_path):
    process = job(REFUSE="1")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert errors.splitlines()[-1] == (
        "error: process 1 of 2 failed first (exit status 2), the others were ended: "
        "PipelineError: the second one does not want to"
    )
    assert all(_is_gone(pid) for pid in workers(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_no_process_outlives_the_command(job, tmp_path, sent, status):
    process = job()
    pids = workers(tmp_path)
    assert not any(_is_gone(pid) for pid in pids)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == status
    _until(lambda: all(_is_gone(pid) for pid in pids))
    assert ("the same command goes on from here" in errors) == (sent == signal.SIGINT)


def test_torchrun_with_another_number_of_processes_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mini.write_params(tmp_path, processes=2)
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    done = []
    with pytest.raises(PipelineError, match="mini.yaml: processes: is 2, and torchrun started 4"):
        in_processes("job", [], mini.load().runs, done.append, "objects")
    assert not done
