"""What running a stage cost and on what: time, memory, energy, device, versions, commit.

These facts differ between replays: they go into `runtime.json` and nowhere else. What a machine
does not tell is null.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "onedl-mmsegmentation", "onedl-mmcv", "onedl-mmengine", "numpy", "snakemake")
LOCK = Path(__file__).resolve().parents[2] / "requirements.lock"
POWERCAP = Path("/sys/class/powercap")

_MIB = 2**20


class Meter:
    """Measures from its construction on."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._cpu_energy, self._gpu_energy = cpu_energy(), gpu_energy()

    def facts(self) -> dict[str, Any]:
        """The content of `runtime.json`, times in seconds.

        Energies are those of whole devices, in joules: what else ran on them is in it.
        """
        commit, dirty = git_commit()
        processes = int(os.environ.get("WORLD_SIZE", "1"))
        gpus = _used_gpus(processes)
        return {
            "started": self._started,
            "wall_seconds": round(time.perf_counter() - self._wall, 3),
            "cpu_seconds": round(time.process_time() - self._cpu, 3),
            "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            "peak_gpu_memory_mib": _peak_gpu_memory(),
            "cpu_energy_joules": spent(self._cpu_energy, cpu_energy()),
            "gpu_energy_joules": spent(self._gpu_energy, gpu_energy(), list(gpus)),
            "device": ", ".join(dict.fromkeys(gpus.values())) or "cpu",
            **({"processes": processes} if processes > 1 else {}),
            "commit": commit,
            "dirty": dirty,
            "lock": lock_state(),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "processor": processor(),
            "instructions": _instructions(),
            "cpu_count": os.cpu_count(),
            "versions": {name: metadata.version(name) for name in PACKAGES},
        }


Counters = dict[str, tuple[float, float | None]]
"""Of each device the joules that it has counted so far, and where its counter starts again."""


def cpu_energy(powercap: Path = POWERCAP) -> Counters:
    """The RAPL counters of all CPU packages; empty where there are none or only root reads them."""
    counters: Counters = {}
    for domain in sorted(powercap.glob("intel-rapl:*")):
        # `intel-rapl:0` is a package, `intel-rapl:0:1` a part of it.
        if domain.name.count(":") == 1 and os.access(domain / "energy_uj", os.R_OK):
            used, limit = (
                int((domain / name).read_text()) / 1e6
                for name in ("energy_uj", "max_energy_range_uj")
            )
            counters[domain.name] = used, limit
    return counters


def gpu_energy() -> Counters:
    """The NVML counters of all GPUs by UUID; empty without driver, package or such a counter."""
    try:
        import pynvml
    except ImportError:
        return {}
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return {}
    counters: Counters = {}
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            try:
                used = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
            except pynvml.NVMLError_NotSupported:
                continue
            counters[_uuid(pynvml.nvmlDeviceGetUUID(handle))] = used, None
    finally:
        pynvml.nvmlShutdown()
    return counters


def spent(before: Counters, after: Counters, devices: list[str] | None = None) -> float | None:
    """Joules between two readings, of these devices or of all; None where one does not tell.

    A counter that went back has started again once.
    """
    devices = list(before) if devices is None else devices
    if not devices or not set(devices) <= before.keys() & after.keys():
        return None
    total = 0.0
    for device in devices:
        joules, limit = after[device][0] - before[device][0], after[device][1]
        if joules < 0:
            if limit is None:
                return None
            joules += limit
        total += joules
    return round(total, 1)


def lock_state(lock: Path = LOCK) -> dict[str, Any] | None:
    """sha256 of the lock file, and each package that is not installed as locked.

    A local version (`2.13.0+cpu`) is a build of the locked one. None where there is no lock file,
    as for an installed package.
    """
    if not lock.is_file():
        return None
    content = lock.read_bytes()
    differs = {}
    for line in content.decode().splitlines():
        name, pinned, version = line.partition("==")
        if pinned and not line.startswith("#"):
            try:
                installed = metadata.version(name)
            except metadata.PackageNotFoundError:
                installed = None
            if installed is None or installed.partition("+")[0] != version.strip():
                differs[name] = {"installed": installed, "locked": version.strip()}
    return {"sha256": hashlib.sha256(content).hexdigest(), "differs": differs}


def processor() -> str | None:
    """What the CPU calls itself; None where it does not."""
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        found = re.search(r"^model name\s*: (.+)$", listing.read_text(), re.MULTILINE)
        if found:
            return found[1]
    return platform.processor() or None


def _instructions() -> str | None:
    """The vector instructions that torch computes with, such as AVX512, where it was used.

    Sums depend on them: a training repeats its weights bit by bit on CPUs of one kind only.
    """
    torch = sys.modules.get("torch")
    return torch.backends.cpu.get_cpu_capability() if torch is not None else None


def git_commit() -> tuple[str | None, bool | None]:
    """(commit id, whether tracked files differ from it); Nones outside a git checkout."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], capture_output=True, text=True, check=True, timeout=30
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "-uno"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _cuda() -> Any:
    """`torch.cuda` where this process has used it: measuring is no reason to start it."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None


def _used_gpus(processes: int) -> dict[str, str]:
    """Names of the GPUs of this run by UUID: its own one, or one for each process."""
    cuda = _cuda()
    if cuda is None:
        return {}
    indices = [cuda.current_device()] if processes == 1 else range(cuda.device_count())[:processes]
    seen = [cuda.get_device_properties(index) for index in indices]
    return {_uuid(str(device.uuid)): device.name for device in seen}


def _peak_gpu_memory() -> float | None:
    """MiB that this process held at most, on the GPU where it held most."""
    cuda = _cuda()
    if cuda is None:
        return None
    peaks = [cuda.max_memory_reserved(index) for index in range(cuda.device_count())]
    return round(max(peaks) / _MIB, 1)


def _uuid(name: str) -> str:
    """NVML says `GPU-` before it, PyTorch does not."""
    return name.removeprefix("GPU-")
