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


def test_a_training_says_on_which_kind_of_cpu_it_ran():
    import torch

    facts = measuring.Meter().facts()
    assert facts["instructions"] == torch.backends.cpu.get_cpu_capability()
    assert facts["processor"] is None or facts["processor"].strip()
