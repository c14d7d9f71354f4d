"""Which GPUs a process computes on, so that runs on one machine never share one by accident.

Whoever needs GPUs claims them before torch is imported: a lock on a file for each device, which the
kernel releases when the process ends, however it ends. The claimed devices, and no others, are then
in CUDA_VISIBLE_DEVICES. Where that variable is set before, by a person or by SLURM, the choice is
among the devices that it names. A device is known by its UUID, since the numbers in a SLURM job may
begin at 0 in each job.

The locks are those of one user on one machine: they know nothing of other programs or users. They
lie in XDG_RUNTIME_DIR, where only the user can write, whether or not a job is told of it; else in
/tmp, in a folder that is the user's alone. Not in TMPDIR, which a job may have of its own.

A run that has a device alone holds an exclusive lock on its file. Runs that share one hold a shared
lock on that file, and each an exclusive one on the file of a slot: so many as the study allows, and
never beside a run that wants the device alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pipelines.base.errors import PipelineError

VARIABLE = "CUDA_VISIBLE_DEVICES"
AT_ONCE = "SAR_RUNS_AT_ONCE"
"""How many runs may compute on this machine's visible GPUs at a time, for the processes of one."""

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
    count: int,
    *,
    required: bool = False,
    key: str = "processes",
    slots: Callable[[], int] = lambda: 1,
    folder: Path | None = None,
) -> Iterator[list[str]]:
    """Hold `count` devices for the time of the block, in which CUDA_VISIBLE_DEVICES names them.

    Waits, and says so once, while too few are free. Those who wait are served one after the other,
    so that two that need several cannot each hold a part of what the other waits for.

    Args:
        required: whether a machine without GPUs is an error; otherwise nothing is held there.
        key: what asked for so many, for messages.
        slots: how many may hold a device at once, this one included; asked anew while it waits,
            since others may find out. A device with the fewest is taken.
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
    before = {name: os.environ.get(name) for name in (VARIABLE, AT_ONCE)}
    with contextlib.ExitStack() as held:
        mine, sharing = _take(devices, count, slots, _folder() if folder is None else folder, held)
        os.environ[VARIABLE] = ",".join(mine)
        os.environ[AT_ONCE] = str(max(len(devices) * sharing // count, 1))
        # The order of nvidia-smi, by which the numbers were looked up.
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        try:
            yield mine
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def runs_at_once() -> int:
    """How many runs may compute on this machine at a time, as far as GPUs limit them; for a process
    that has claimed its GPUs. 1 where none are claimed."""
    return int(os.environ.get(AT_ONCE, "1"))


def memory() -> int | None:
    """MiB of memory of the smallest device that this process may use; None where nobody tells."""
    sizes = _query("uuid,memory.total")
    found = [sizes.get(identity) for identity in visible().values()]
    return min((int(size) for size in found if size and size.isdigit()), default=None)


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
    return _query("index,uuid")


def _query(names: str) -> dict[str, str]:
    """The second of two properties of the machine's devices, by the first."""
    query = ["nvidia-smi", f"--query-gpu={names}", "--format=csv,noheader,nounits"]
    try:
        shown = subprocess.run(query, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return {}
    if shown.returncode != 0:
        return {}
    pairs = (line.partition(",") for line in shown.stdout.splitlines() if line.strip())
    return {first.strip(): second.strip() for first, _, second in pairs}


def _take(
    devices: dict[str, str],
    count: int,
    slots: Callable[[], int],
    folder: Path,
    held: contextlib.ExitStack,
) -> tuple[list[str], int]:
    """Lock `count` of the devices, by waiting where it must; their names, in the given order, and
    how many may share each of them."""
    mine: list[str] = []
    announced = False
    with contextlib.ExitStack() as turn:
        while not _lock(folder / "queue", turn):
            announced = announced or _announce(count, devices, folder)
            time.sleep(_POLL)
        # Settled with the first device: those of one run are shared alike.
        sharing = slots()
        while True:
            for slot in range(sharing):
                for name, identity in devices.items():
                    free = name not in mine and len(mine) < count
                    if free and _hold(folder, identity, slot if sharing > 1 else None, held):
                        mine.append(name)
            if len(mine) == count:
                return [name for name in devices if name in mine], sharing
            announced = announced or _announce(count - len(mine), devices, folder)
            time.sleep(_POLL)
            sharing = sharing if mine else slots()


def _hold(folder: Path, identity: str, slot: int | None, held: contextlib.ExitStack) -> bool:
    """Hold a device, alone or by one of its slots, until `held` closes; False where it is taken."""
    if slot is None:
        return _lock(_file(folder, identity), held)
    with contextlib.ExitStack() as tried:
        if _lock(_file(folder, identity), tried, shared=True) and _lock(
            _file(folder, f"{identity}#{slot}"), tried
        ):
            held.push(tried.pop_all())
            return True
    return False


def _lock(path: Path, stack: contextlib.ExitStack, *, shared: bool = False) -> bool:
    """Lock the file until `stack` closes, or the process ends; False when another has it."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise PipelineError(f"{path}: {error.strerror}; expected a lock file, remove it") from None
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    _held.add(file)
    stack.callback(_release, file)
    os.ftruncate(file, 0)
    if not shared:  # Who shares it, the files of the slots say.
        os.write(file, f"{os.getpid()}\n".encode())
    return True


def _release(file: int) -> None:
    _held.discard(file)
    os.close(file)


def _announce(count: int, devices: dict[str, str], folder: Path) -> bool:
    """Say on the console what is waited for; True, since then it has been said."""
    holders = []
    for name, identity in devices.items():
        file = _file(folder, identity)
        found = [file, *sorted(folder.glob(f"{glob.escape(file.name)}#*"))]
        said = [path.read_text().strip() for path in found if path.is_file()]
        holders += [f"{name} (process {process})" for process in said if process]
    print(
        f"waiting for {count} of {len(devices)} GPUs, last taken: {', '.join(holders) or 'none'}",
        file=sys.stderr,
        flush=True,
    )
    return True


def _file(folder: Path, identity: str) -> Path:
    return folder / identity.replace("/", "_")


def _folder(shared: Path = Path("/tmp")) -> Path:
    """The folder of the user's locks, made where it is missing.

    Args:
        shared: where it is without a XDG_RUNTIME_DIR; anybody may have put anything there.

    Raises:
        PipelineError: when something else has its name.
    """
    user = os.getuid()
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{user}")
    folder = shared / f"semantic-anchors-{user}"
    if _fault(runtime) is None and os.access(runtime, os.W_OK):
        folder = runtime / "semantic-anchors"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    fault = _fault(folder)
    if fault is not None:
        raise PipelineError(f"{folder}: {fault}; expected a folder of one's own with mode 0700")
    return folder


def _fault(folder: Path) -> str | None:
    """Why others could change what is in a folder; None where they cannot."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return "is not there"
    if not stat.S_ISDIR(found.st_mode):
        return "is a link or a file"
    if found.st_uid != os.getuid():
        return "belongs to another user"
    others = stat.S_IMODE(found.st_mode) & 0o077
    return f"has mode {stat.S_IMODE(found.st_mode):04o}" if others else None
