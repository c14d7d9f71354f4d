"""What running a stage cost and on what: time, memory, energy, device, versions, commit.

These facts differ between replays: they go into `runtime.json` and nowhere else. What a machine
does not tell is null.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import re
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "onedl-mmsegmentation", "onedl-mmcv", "onedl-mmengine", "numpy", "snakemake")
LOCK = Path(__file__).resolve().parents[2] / "requirements.lock"
POWERCAP = Path("/sys/class/powercap")
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")

UNKNOWN = "unknown"
"""The commit of a checkout of which git does not tell it."""

_MIB = 2**20
_OUTSIDE = "not a git repository (or any"
"""What git says where no folder above is a checkout; of a broken one it says its path instead."""
_log = logging.getLogger(__name__)


class Meter:
    """Measures from its construction on."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._cpu_energy, self._gpu_energy = cpu_energy(), gpu_energy()
        pull = sys.modules.get("sar.pull")
        if pull is not None:  # What an earlier run of this process took is not this one's.
            pull.taken.clear()

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
            **_tf32(),
            **_pull(),
            **({"processes": processes} if processes > 1 else {}),
            "commit": commit,
            "dirty": dirty,
            "lock": lock_state(),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "processor": processor(),
            "instructions": _instructions(),
            "cpu_count": os.cpu_count(),
            "versions": {name: found for name in PACKAGES if (found := _version(name))},
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
            installed = _version(name)
            if installed is None or installed.partition("+")[0] != version.strip():
                differs[name] = {"installed": installed, "locked": version.strip()}
    return {"sha256": hashlib.sha256(content).hexdigest(), "differs": differs}


def _version(package: str) -> str | None:
    """None where it is not installed: a stage by itself needs no Snakemake."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str | None:
    """What the CPU calls itself; None where it does not."""
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        found = re.search(r"^model name\s*: (.+)$", listing.read_text(), re.MULTILINE)
        if found:
            return found[1]
    return platform.processor() or None


def available_memory(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int:
    """Bytes that a process can take without any being swapped out: of the machine, or less where a
    container or a job has a limit (cgroup v2). 0 where the system does not tell."""
    if not meminfo.is_file():
        return 0
    found = re.search(r"^MemAvailable:\s*(\d+) kB$", meminfo.read_text(), re.MULTILINE)
    free = 1024 * int(found[1]) if found else 0
    limit, used = cgroup / "memory.max", cgroup / "memory.current"
    if limit.is_file() and used.is_file():
        bound = limit.read_text().strip()
        if bound != "max":
            free = min(free, max(int(bound) - int(used.read_text()), 0))
    return free


def _instructions() -> str | None:
    """The vector instructions that torch computes with, such as AVX512, where it was used.

    Sums depend on them: a training repeats its weights bit by bit on CPUs of one kind only.
    """
    torch = sys.modules.get("torch")
    return torch.backends.cpu.get_cpu_capability() if torch is not None else None


def git_commit() -> tuple[str | None, bool | None]:
    """(commit id, whether tracked files differ from it); Nones outside a git checkout.

    In a checkout of which git does not tell them, as of one that belongs to somebody else, there is
    a warning, and the id is `UNKNOWN`.
    """

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words],
            capture_output=True,
            # Its messages are read below.
            env=os.environ | {"LC_ALL": "C"},
            encoding="utf-8",
            errors="replace",
            check=True,
            timeout=30,
        ).stdout.strip()

    commit = UNKNOWN
    try:
        commit = git("rev-parse", "HEAD")
        return commit, bool(git("status", "--porcelain", "-uno"))
    except subprocess.CalledProcessError as error:
        if _OUTSIDE in error.stderr:
            return None, None
        reason = " ".join(error.stderr.split())
    except FileNotFoundError as error:
        if not any((folder / ".git").exists() for folder in Path("file").resolve().parents):
            return None, None
        reason = str(error)
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    told = "its commit is recorded as unknown" if commit == UNKNOWN else "changes are not recorded"
    _warn(f"git does not tell the state of this checkout, so {told}: {reason}")
    return commit, None


@cache
def _warn(message: str) -> None:
    """Once in a process."""
    _log.warning(message)


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


def _tf32() -> dict[str, bool]:
    """Whether the GPU that was used might round float32 to TF32, in either kind of product."""
    if _cuda() is None:
        return {}
    backends = sys.modules["torch"].backends
    return {"tf32": backends.cuda.matmul.allow_tf32 or backends.cudnn.allow_tf32}


def _pull() -> dict[str, list[str]]:
    """How SAR's pull was computed, where it was: its ways round apart."""
    pull = sys.modules.get("sar.pull")
    taken: list[str] = [] if pull is None else pull.taken.names()
    return {"pull": taken} if taken else {}


def _uuid(name: str) -> str:
    """NVML says `GPU-` before it, PyTorch does not."""
    return name.removeprefix("GPU-")
