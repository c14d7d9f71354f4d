"""Which GPUs a process computes on, so that runs on one machine never share one by accident.

Whoever needs GPUs claims them before torch is imported: a lock on a file for each device, which the
kernel releases when the process ends, however it ends. The claimed devices, and no others, are then
in CUDA_VISIBLE_DEVICES. Where that variable is set before, by a person or by SLURM, the choice is
among the devices that it names. A device is known by its UUID, since the numbers in a SLURM job may
begin at 0 in each job.

The locks are those of one user on one machine: they know nothing of other programs or users. Not in
XDG_RUNTIME_DIR, which goes when the user logs out, nor in TMPDIR, which a job may have of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pipelines.base.errors import PipelineError

VARIABLE = "CUDA_VISIBLE_DEVICES"

_POLL = 0.5
"""Seconds between two looks at devices that are in use."""

_held: set[int] = set()
"""Open files that hold a lock. A fork, such as a process that loads images, must not keep them."""


def _forget() -> None:
    for file in _held:
        os.close(file)
    _held.clear()


os.register_at_fork(after_in_child=_forget)


@contextlib.contextmanager
def claimed(
    count: int, *, required: bool = False, key: str = "processes", folder: Path | None = None
) -> Iterator[list[str]]:
    """Hold `count` devices for the time of the block, in which CUDA_VISIBLE_DEVICES names them.

    Waits, and says so once, while too few are free. Those who wait are served one after the other,
    so that two that need several cannot each hold a part of what the other waits for.

    Args:
        required: whether a machine without GPUs is an error; otherwise nothing is held there.
        key: what asked for so many, for messages.
        folder: where the locks are; each user has one for all projects.

    Raises:
        PipelineError: when this process may see fewer devices than `count`.
    """
    devices = visible()
    if not devices and not required:
        yield []
        return
    if len(devices) < count:
        named = os.environ.get(VARIABLE)
        where = "this machine shows" if named is None else f"{VARIABLE}={named} shows"
        raise PipelineError(
            f"{key}: {count} GPUs are needed, one a process, and {where} {len(devices)}"
            + ("" if required else f"; {VARIABLE}= (empty) computes on the CPU")
        )
    before = os.environ.get(VARIABLE)
    with contextlib.ExitStack() as held:
        mine = _take(devices, count, _folder() if folder is None else folder, held)
        os.environ[VARIABLE] = ",".join(mine)
        # The order of nvidia-smi, by which the numbers were looked up.
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        try:
            yield mine
        finally:
            if before is None:
                del os.environ[VARIABLE]
            else:
                os.environ[VARIABLE] = before


def visible() -> dict[str, str]:
    """The devices that this process may use: by the name that CUDA knows, what each is.

    That is its UUID, where nvidia-smi can tell; none on a machine without NVIDIA's driver.
    """
    named = os.environ.get(VARIABLE)
    if named is not None and not named.strip():
        return {}
    uuids = _uuids()
    if named is None:
        return {uuid: uuid for uuid in uuids.values()}
    devices: dict[str, str] = {}
    for name in (part.strip() for part in named.split(",")):
        # CUDA ignores what comes after a device that does not exist; these are said for none.
        if name in ("-1", "", "NoDevFiles", "none"):
            break
        whole = [uuid for uuid in uuids.values() if name.startswith("GPU-") and name in uuid]
        identity = uuids.get(name) or (whole[0] if len(whole) == 1 else name)
        if identity not in devices.values():
            devices[name] = identity
    return devices


def _uuids() -> dict[str, str]:
    """UUIDs of the machine's devices by index, as nvidia-smi shows them to this process."""
    query = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    try:
        shown = subprocess.run(query, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return {}
    if shown.returncode != 0:
        return {}
    pairs = (line.partition(",") for line in shown.stdout.splitlines() if line.strip())
    return {index.strip(): uuid.strip() for index, _, uuid in pairs}


def _take(
    devices: dict[str, str], count: int, folder: Path, held: contextlib.ExitStack
) -> list[str]:
    """Lock `count` of the devices, by waiting where it must; their names, in the given order."""
    mine: list[str] = []
    announced = False
    with contextlib.ExitStack() as turn:
        while not _lock(folder / "queue", turn):
            announced = announced or _announce(count, devices, folder)
            time.sleep(_POLL)
        while True:
            for name, identity in devices.items():
                if len(mine) == count:
                    return [name for name in devices if name in mine]
                if name not in mine and _lock(_file(folder, identity), held):
                    mine.append(name)
            if len(mine) < count:
                announced = announced or _announce(count - len(mine), devices, folder)
                time.sleep(_POLL)


def _lock(path: Path, stack: contextlib.ExitStack) -> bool:
    """Lock the file until `stack` closes, or the process ends; False when another has it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    _held.add(file)
    stack.callback(_release, file)
    os.ftruncate(file, 0)
    os.write(file, f"{os.getpid()}\n".encode())
    return True


def _release(file: int) -> None:
    _held.discard(file)
    os.close(file)


def _announce(count: int, devices: dict[str, str], folder: Path) -> bool:
    """Say on the console what is waited for; True, since then it has been said."""
    holders = []
    for name, identity in devices.items():
        with contextlib.suppress(FileNotFoundError):
            holders.append(f"{name} (process {_file(folder, identity).read_text().strip()})")
    print(
        f"waiting for {count} of {len(devices)} GPUs, last taken: {', '.join(holders) or 'none'}",
        file=sys.stderr,
        flush=True,
    )
    return True


def _file(folder: Path, identity: str) -> Path:
    return folder / identity.replace("/", "_")


def _folder() -> Path:
    folder = Path("/tmp") / f"semantic-anchors-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PipelineError(f"{folder}: belongs to another user; expected a folder of one's own")
    return folder
