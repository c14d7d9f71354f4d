"""What runtime.json says of a machine, and what it says where the machine does not tell."""

import hashlib
import json
import os
import subprocess
import sys
from importlib import metadata

import pytest

from pipelines.base import measuring
from pipelines.base.artifacts import Stopwatch, read_json


def write_counter(powercap, name, used, limit=1000.0):
    folder = powercap / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(f"{round(used * 1e6)}\n")
    (folder / "max_energy_range_uj").write_text(f"{round(limit * 1e6)}\n")


def test_the_energy_of_all_packages_is_counted_once_over_a_counter_s_end(tmp_path):
    write_counter(tmp_path, "intel-rapl:0", 990.0)
    write_counter(tmp_path, "intel-rapl:0:0", 100.0)
    write_counter(tmp_path, "intel-rapl:1", 5.0)
    before = measuring.cpu_energy(tmp_path)
    write_counter(tmp_path, "intel-rapl:0", 10.0)
    write_counter(tmp_path, "intel-rapl:0:0", 900.0)
    write_counter(tmp_path, "intel-rapl:1", 12.5)
    assert measuring.spent(before, measuring.cpu_energy(tmp_path)) == 27.5


def test_a_machine_without_counters_tells_no_energy(tmp_path):
    assert measuring.cpu_energy(tmp_path / "none") == {}
    assert measuring.spent({}, {}) is None
    assert measuring.spent({"a": (1.0, None)}, {"a": (4.0, None)}, ["a", "b"]) is None
    assert measuring.spent({"a": (1.0, None)}, {"a": (4.0, None)}, ["a"]) == 3.0
    assert measuring.spent({"a": (4.0, None)}, {"a": (1.0, None)}) is None


def test_the_lock_is_named_by_its_hash_with_all_that_differs(tmp_path):
    numpy = metadata.version("numpy")
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"# numpy==0\nnumpy=={numpy}\npandas==0.1\nno-such-package==3\n")
    assert measuring.lock_state(lock) == {
        "sha256": hashlib.sha256(lock.read_bytes()).hexdigest(),
        "differs": {
            "pandas": {"installed": metadata.version("pandas"), "locked": "0.1"},
            "no-such-package": {"installed": None, "locked": "3"},
        },
    }
    assert measuring.lock_state(tmp_path / "none") is None


def test_a_stage_says_all_of_it_and_one_process_is_not_mentioned(tmp_path):
    Stopwatch().write(tmp_path, more=1)
    runtime = read_json(tmp_path / "runtime.json")
    assert runtime["lock"]["sha256"] and runtime["more"] == 1 and "processes" not in runtime
    assert {"commit", "dirty", "device", "cpu_energy_joules", "gpu_energy_joules"} <= set(runtime)
    assert runtime["peak_memory_mib"] > 1 and runtime["wall_seconds"] >= 0


def test_several_processes_are_told(tmp_path):
    program = (
        "import pathlib, sys; from pipelines.base.artifacts import Stopwatch; "
        "Stopwatch().write(pathlib.Path(sys.argv[1]))"
    )
    subprocess.run(
        [sys.executable, "-c", program, tmp_path], env=os.environ | {"WORLD_SIZE": "4"}, check=True
    )
    assert json.loads((tmp_path / "runtime.json").read_text())["processes"] == 4


@pytest.mark.gpu
def test_a_gpu_tells_its_name_peak_memory_and_energy():
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    meter = measuring.Meter()
    matrix = torch.ones(4096, 4096, device="cuda")
    for _ in range(50):
        matrix = matrix @ matrix / 4096
    torch.cuda.synchronize()
    facts = meter.facts()
    assert facts["device"] == torch.cuda.get_device_name()
    assert facts["peak_gpu_memory_mib"] >= 64
    assert facts["gpu_energy_joules"] is None or facts["gpu_energy_joules"] > 0


def test_a_stage_runs_where_a_package_is_not_installed(monkeypatch):
    monkeypatch.setattr(measuring, "PACKAGES", ("torch", "no-such-package"))
    assert list(measuring.Meter().facts()["versions"]) == ["torch"]


@pytest.mark.parametrize(
    ("products", "convolutions", "may_round"),
    [(False, False, False), (True, False, True), (False, True, True)],
)
def test_a_gpu_says_whether_it_may_round_to_tf32(products, convolutions, may_round, monkeypatch):
    import torch

    if not torch.cuda.is_available():
        assert measuring._tf32() == {}
    backends = torch.backends
    before = backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32
    backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32 = products, convolutions
    monkeypatch.setattr(measuring, "_cuda", lambda: torch.cuda)
    try:
        assert measuring._tf32() == {"tf32": may_round}
    finally:
        backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32 = before


def test_a_training_says_on_which_kind_of_cpu_it_ran():
    import torch

    facts = measuring.Meter().facts()
    assert facts["instructions"] == torch.backends.cpu.get_cpu_capability()
    assert facts["processor"] is None or facts["processor"].strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git repository with one commit, as the working directory, and no warning given so far."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(measuring, "_warn", measuring._warn.__wrapped__)
    git("init", "--quiet")
    (tmp_path / "file").write_text("one")
    git("add", ".")
    identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
    git(*identity, "commit", "--quiet", "--message", "One")
    return tmp_path


def git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout


def test_a_commit_is_told_with_whether_files_differ_from_it(checkout, caplog):
    commit = git("rev-parse", "HEAD").strip()
    assert measuring.git_commit() == (commit, False)
    (checkout / "file").write_text("two")
    assert measuring.git_commit() == (commit, True)
    assert not caplog.text


def test_outside_git_there_is_no_commit_and_no_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    assert measuring.git_commit() == (None, None)
    monkeypatch.setenv("PATH", "")
    assert measuring.git_commit() == (None, None)
    assert not caplog.text


def test_a_checkout_of_somebody_else_is_unknown_and_not_outside(checkout, monkeypatch, caplog):
    # What git takes as its owner differing from who runs it.
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert measuring.git_commit() == (measuring.UNKNOWN, None)
    assert "recorded as unknown: fatal: detected dubious ownership" in caplog.text
    assert "safe.directory" in caplog.text


def test_a_broken_checkout_a_new_one_and_one_without_git_are_unknown(checkout, monkeypatch, caplog):
    head = checkout / ".git/HEAD"
    head.write_text("ref: refs/heads/none\n")
    assert measuring.git_commit() == (measuring.UNKNOWN, None)
    (checkout / ".git").rename(checkout / "gone")
    (checkout / ".git").write_text(f"gitdir: {checkout}/elsewhere\n")
    assert measuring.git_commit() == (measuring.UNKNOWN, None)
    monkeypatch.setenv("PATH", "")
    assert measuring.git_commit() == (measuring.UNKNOWN, None)
    assert len(caplog.records) == 3


def test_available_memory_is_that_of_the_machine_or_of_the_job(tmp_path):
    meminfo = tmp_path / "meminfo"
    assert measuring.available_memory(meminfo, tmp_path) == 0
    meminfo.write_text("MemTotal:  9000 kB\nMemAvailable:    5000 kB\n")
    assert measuring.available_memory(meminfo, tmp_path) == 5000 * 1024
    (tmp_path / "memory.current").write_text("1000\n")
    for limit, free in (("max", 5000 * 1024), ("3000", 2000), ("900", 0), ("9" * 12, 5000 * 1024)):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        assert measuring.available_memory(meminfo, tmp_path) == free
