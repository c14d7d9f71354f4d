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

count, folder, log, slots = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])


def tell(change):
    with open(folder / "events", "a") as file:
        for device in os.environ["CUDA_VISIBLE_DEVICES"].split(","):
            file.write(f"{device} {change * slots}\\n")


with claimed(count, slots=lambda: slots, folder=folder):
    assert "torch" not in sys.modules
    assert os.environ["SAR_RUNS_AT_ONCE"] == str(2 * slots // count)
    tell(1)
    for device in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if slots == 1 else []:
        # Fails where another process has the device.
        os.close(os.open(folder / f"busy-{device}", os.O_CREAT | os.O_EXCL))
    with open(log, "a") as file:
        file.write(os.environ["CUDA_VISIBLE_DEVICES"] + "\\n")
    print("holding", flush=True)
    if sys.argv[5:]:
        sys.stdin.read()
    else:
        time.sleep(0.2)
    for device in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if slots == 1 else []:
        os.unlink(folder / f"busy-{device}")
    tell(-1)
"""


def holder(
    folder: Path, count: int = 1, *, slots: int = 1, until_told: bool = False
) -> subprocess.Popen:
    """A process that claims `count` of the devices a and b, for a moment or until it is told."""
    words = [str(count), str(folder), str(folder / "log"), str(slots)]
    words += ["wait"] if until_told else []
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


def test_runs_share_a_device_as_far_as_they_may_and_never_with_one_that_wants_it_alone(tmp_path):
    sharing = [holder(tmp_path, slots=2, until_told=True) for _ in range(4)]
    for process in sharing:
        assert process.stdout.readline() == "holding\n"
    # Spread over the devices, and then no room for a fifth, nor for one alone.
    assert sorted((tmp_path / "log").read_text().split()) == ["a", "a", "b", "b"]
    waiting = holder(tmp_path, slots=2)
    message = waiting.stderr.readline()
    assert message.startswith("waiting for 1 of 2 GPUs")
    assert all(str(process.pid) in message for process in sharing)
    sharing[1].send_signal(signal.SIGKILL)
    sharing[1].wait()
    assert waiting.wait(timeout=60) == 0, waiting.stderr.read()
    alone = holder(tmp_path)
    assert alone.stderr.readline().startswith("waiting for 1 of 2 GPUs")
    for process in (sharing[0], sharing[2], sharing[3]):
        assert alone.poll() is None
        process.communicate("done")
        assert process.returncode == 0
    assert alone.wait(timeout=60) == 0


def test_claims_of_all_kinds_at_once_keep_their_limits(tmp_path):
    """At each moment a device is one run's, or that of two which share it with one another."""
    kinds = [(1, 2), (1, 1), (2, 2), (1, 2), (2, 1), (1, 2), (1, 1), (1, 2)]
    processes = [holder(tmp_path, count, slots=slots) for count, slots in kinds]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    holders: dict[str, list[int]] = {"a": [], "b": []}
    for event in (tmp_path / "events").read_text().splitlines():
        device, slots = event.split()[0], int(event.split()[1])
        if slots > 0:
            holders[device].append(slots)
        else:
            holders[device].remove(-slots)
        assert holders[device] in ([], [1], [2], [2, 2])
    assert holders == {"a": [], "b": []}


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


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A folder of the user's session, and one that is everybody's."""
    (tmp_path / "run").mkdir(mode=0o700)
    (tmp_path / "shared").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path / "run", tmp_path / "shared"


def test_locks_lie_where_only_the_user_can_write(places):
    run, shared = places
    folder = devices._folder(shared)
    assert folder == run / "semantic-anchors" and folder.stat().st_mode & 0o777 == 0o700
    assert devices._folder(shared) == folder
    run.chmod(0o755)  # That is no place for secrets.
    folder = devices._folder(shared)
    assert folder.parent == shared and folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("planted", ["link", "file", "open", "dangling"])
def test_a_planted_folder_is_refused(places, tmp_path, monkeypatch, planted):
    _, shared = places
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "none"))
    theirs = shared / f"semantic-anchors-{os.getuid()}"
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    if planted == "link":
        theirs.symlink_to(tmp_path / "elsewhere")
    elif planted == "dangling":
        theirs.symlink_to(tmp_path / "nowhere")
    elif planted == "file":
        theirs.touch()
    else:
        theirs.mkdir()
        theirs.chmod(0o777)
    with pytest.raises(PipelineError, match="expected a folder of one's own with mode 0700"):
        devices._folder(shared)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_planted_lock_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "queue").symlink_to(victim)
    with contextlib.ExitStack() as stack, pytest.raises(PipelineError, match="queue: Too many"):
        devices._lock(tmp_path / "queue", stack)
    assert victim.read_text() == "precious"
