"""Run Snakemake in this folder, and nothing beside it: `python workflow/alone.py --cores all`.

A Snakemake that is killed leaves its lock behind, and the next one refuses to start. This removes
such a lock with `snakemake --unlock`, but only when it is stale: no other call of this script, no
Snakemake and no command that one started works in this folder. All arguments go to Snakemake, whose
own lines give way to the study's progress (`--logger study`) and stay in `.snakemake/log`.

Exit status: Snakemake's, or 2 when somebody else works here.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
from pathlib import Path

import psutil

# Run as a file, this has its own folder on the path and not the project's.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pipelines.study.places import STAGES

FOLDER = Path(".snakemake")
HERE = Path(__file__).resolve().parent
_JOB = re.compile(rf"-m pipelines\.({'|'.join(STAGES)}|running\.launch)\b")


def at_work() -> list[str]:
    """Processes of this machine that are Snakemake, or were started by one, in this folder."""
    found = []
    here = Path.cwd()
    for process in psutil.process_iter():
        try:
            words, folder = process.cmdline(), process.cwd()
        except psutil.Error:
            continue  # gone meanwhile, or somebody else's
        line = " ".join(words)
        snakemake = any(Path(w).name == "snakemake" for w in words[:2]) or "-m snakemake" in line
        if folder and Path(folder) == here and (snakemake or _JOB.search(line)):
            found.append(f"process {process.pid}: {line[:100]}")
    return found


def main(arguments: list[str]) -> int:
    FOLDER.mkdir(exist_ok=True)
    lock = os.open(FOLDER / "alone.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("error: another call works in this folder; wait for it", file=sys.stderr)
        return 2
    command = [sys.executable, "-m", "snakemake", *arguments]
    if any((FOLDER / "locks").glob("*")):
        if others := at_work():
            print(
                "error: this folder is locked, and somebody works in it; wait, or end",
                *others,
                sep="\n  ",
                file=sys.stderr,
            )
            return 2
        print("removing the lock of a Snakemake that was killed", file=sys.stderr, flush=True)
        if status := subprocess.call([*command, "--unlock"]):
            return status
    # The lock goes over to Snakemake, and with its process it ends, however that ends.
    os.set_inheritable(lock, True)
    # Where Snakemake finds the plugin, and the plugin this checkout.
    paths = [str(HERE / "console"), str(HERE.parent), os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    os.execv(sys.executable, [*command, "--logger", "study"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
