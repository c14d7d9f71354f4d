"""A real SLURM on this machine, of one node, for as long as a test needs it."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
PACKAGES = ("slurm-wlm", "munge")

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
SlurmdPort={node}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
# Nothing of the system's: no cgroups, no accounting.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
KillWait=2
MinJobAge=3600
GresTypes=gpu
# The node has what is written here, whatever the machine has.
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=200000 Gres=gpu:2 State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""

# Two device files that every machine has.
GPUS = """
AutoDetect=off
Name=gpu File=/dev/null
Name=gpu File=/dev/zero
"""

# Snakemake's job step calls srun without SLURM_CONF: a real cluster has its file in /etc.
SRUN = """#!/bin/sh
SLURM_CONF={folder}/slurm.conf exec {srun} "$@"
"""


def missing() -> str | None:
    """Why there can be no SLURM here, after an attempt to install it; None if there can."""
    if os.name != "posix" or os.getuid() != 0:
        return "SLURM's daemons need root here"
    if all(map(shutil.which, PROGRAMS)):
        return None
    if shutil.which("apt-get") is None:
        return f"no {', '.join(PROGRAMS)}, and no apt-get that could install them"
    for words in (["update", "-qq"], ["install", "-qqy", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(["apt-get", *words], capture_output=True, text=True)
        if done.returncode:
            return f"apt-get {words[0]} failed: {done.stderr.strip().splitlines()[-1:]}"
    unseen = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"{', '.join(unseen)}: installed, but not on PATH" if unseen else None


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Daemons with all their files in `folder`, a new one, on free ports of 127.0.0.1.

    Yields the environment in which SLURM's commands talk to them. It has two GPUs, which are made
    up: SLURM counts and assigns them.
    """
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    control, node = _free_ports(2)
    config = CONFIG.format(
        host=socket.gethostname(),
        control=control,
        node=node,
        folder=folder,
    )
    (folder / "slurm.conf").write_text(config)
    (folder / "gres.conf").write_text(GPUS)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    munge = [f"--{kind}={folder}/munge.{suffix}" for kind, suffix in _MUNGE_FILES.items()]
    srun = folder / "bin/srun"
    srun.parent.mkdir()
    srun.write_text(SRUN.format(folder=folder, srun=shutil.which("srun")))
    srun.chmod(0o755)
    environment = os.environ | {
        "SLURM_CONF": str(folder / "slurm.conf"),
        "PATH": f"{srun.parent}{os.pathsep}{os.environ['PATH']}",
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(_daemon(["munged", "--foreground", "--force", *munge], environment))
        _wait_for(lambda: (folder / "munge.socket").exists())
        stack.enter_context(_daemon(["slurmctld", "-D"], environment))
        stack.enter_context(_daemon(["slurmd", "-D"], environment))
        _wait_for(lambda: "idle" in _states(environment), 60)
        yield environment


_MUNGE_FILES = {
    "socket": "socket",
    "key-file": "key",
    "log-file": "log",
    "pid-file": "pid",
    "seed-file": "seed",
}


@contextlib.contextmanager
def _daemon(command: list[str], environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _states(environment: dict[str, str]) -> str:
    words = ["sinfo", "--noheader", "--format=%T"]
    return subprocess.run(words, env=environment, capture_output=True, text=True).stdout


def _wait_for(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.2)


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)
        ]
        return [probe.getsockname()[1] for probe in probes]
