"""GPUs are claimed by locks. There is none here: devices are names in CUDA_VISIBLE_DEVICES."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.base.errors import PipelineError
from pipelines.running import devices
from tests.pipelines import mini

HOLDER = """
import os, sys, time
from pathlib import Path
from pipelines.running.devices import claimed

count, folder, log = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
with claimed(count, folder=folder):
    assert "torch" not in sys.modules
    for device in os.environ["CUDA_VISIBLE_DEVICES"].split(","):
        # Fails where another process has the device.
        os.close(os.open(folder / f"busy-{device}", os.O_CREAT | os.O_EXCL))
    with open(log, "a") as file:
        file.write(os.environ["CUDA_VISIBLE_DEVICES"] + "\\n")
    print("holding", flush=True)
    if sys.argv[4:]:
        sys.stdin.read()
    else:
        time.sleep(0.2)
    for device in os.environ["CUDA_VISIBLE_DEVICES"].split(","):
        os.unlink(folder / f"busy-{device}")
"""


def holder(folder: Path, count: int = 1, *, until_told: bool = False) -> subprocess.Popen:
    """A process that claims `count` of the devices a and b, for a moment or until it is told."""
    words = [str(count), str(folder), str(folder / "log"), *(["wait"] if until_told else [])]
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, *words],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "a,b", "PYTHONPATH": str(mini.ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_processes_at_once_never_share_a_device(tmp_path):
    """Six on two devices, two of them with both; nobody waits for ever."""
    processes = [holder(tmp_path, count) for count in (1, 2, 1, 1, 2, 1)]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    held = (tmp_path / "log").read_text().split()
    assert held.count("a,b") == 2
    assert held.count("a") + held.count("b") == 4


def test_a_killed_holder_frees_its_device(tmp_path):
    first, second = (holder(tmp_path, until_told=True) for _ in range(2))
    assert first.stdout.readline() == second.stdout.readline() == "holding\n"
    waiting = holder(tmp_path)
    message = waiting.stderr.readline()
    assert message.startswith("waiting for 1 of 2 GPUs")
    assert str(first.pid) in message and str(second.pid) in message
    held = (tmp_path / "log").read_text().split()
    assert sorted(held) == ["a", "b"]
    for device in held:
        # The killed process could not take its mark away.
        if (tmp_path / device).read_text().strip() == str(first.pid):
            (tmp_path / f"busy-{device}").unlink()
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert waiting.wait(timeout=60) == 0
    assert second.poll() is None
    second.communicate("done")
    assert second.returncode == 0


def test_a_fork_that_outlives_its_parent_keeps_no_device(tmp_path, monkeypatch):
    monkeypatch.setenv(devices.VARIABLE, "a")
    reading, writing = os.pipe()
    with devices.claimed(1, folder=tmp_path):
        child = os.fork()
        if child == 0:
            os.write(writing, b"alive")
            signal.pause()
    try:
        assert os.read(reading, 5) == b"alive"
        with contextlib.ExitStack() as stack:
            assert devices._lock(tmp_path / "a", stack)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """A function that puts an nvidia-smi with these lines on PATH."""

    def install(*lines: str) -> None:
        script = tmp_path / "bin/nvidia-smi"
        script.parent.mkdir()
        script.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")

    monkeypatch.delenv(devices.VARIABLE, raising=False)
    return install


def test_devices_are_known_by_their_uuid(smi, monkeypatch, tmp_path):
    smi("0, GPU-aaaa-1", "1, GPU-bbbb-2", "2, GPU-cccc-3")
    assert list(devices.visible()) == ["GPU-aaaa-1", "GPU-bbbb-2", "GPU-cccc-3"]
    for named, known in (
        ("2,0", {"2": "GPU-cccc-3", "0": "GPU-aaaa-1"}),
        ("GPU-bbbb, 1", {"GPU-bbbb": "GPU-bbbb-2"}),  # the same device twice
        ("1,-1,0", {"1": "GPU-bbbb-2"}),  # CUDA's rule
        ("MIG-1/2/3", {"MIG-1/2/3": "MIG-1/2/3"}),
        ("NoDevFiles", {}),  # SLURM's word for none
        ("", {}),
    ):
        monkeypatch.setenv(devices.VARIABLE, named)
        assert devices.visible() == known
    # Two SLURM jobs call their own device 0; what counts is which it is.
    monkeypatch.setenv(devices.VARIABLE, "0,GPU-bbbb-2")
    with devices.claimed(1, folder=tmp_path) as mine:
        assert mine == ["0"] and os.environ[devices.VARIABLE] == "0"
        monkeypatch.setenv(devices.VARIABLE, "GPU-aaaa-1,1")
        with devices.claimed(1, folder=tmp_path) as other:
            assert other == ["1"]
    assert os.environ[devices.VARIABLE] == "0,GPU-bbbb-2"


def test_a_machine_without_gpus_computes_on_its_cpu_unless_they_are_required(smi, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with devices.claimed(4) as mine:
        assert mine == [] and devices.VARIABLE not in os.environ
    with (
        pytest.raises(PipelineError, match="s.yaml: processes: 4 GPUs are needed.* shows 0"),
        devices.claimed(4, required=True, key="s.yaml: processes"),
    ):
        pass
    monkeypatch.setenv(devices.VARIABLE, "a,b")
    with pytest.raises(PipelineError, match="VISIBLE_DEVICES=a,b shows 2; "), devices.claimed(4):
        pass
