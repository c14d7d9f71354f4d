"""CPU seconds of one run of a study: its training and its evaluation, pushed to MLflow or not.

    python benchmarks/run_cpu.py [--study default] [--checkout FOLDER]

Works in a temporary folder, with the parameters of this checkout, one thread, and the commands of
`--checkout` (this one). Prints a table; several calls in turn tell two checkouts apart on a machine
that is not idle.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipelines.study import Study  # noqa: E402


def cpu_seconds(words: list[str], folder: Path, checkout: Path, **environment: str) -> float:
    before = os.times()
    environment = os.environ | {"PYTHONPATH": str(checkout)} | environment
    command = [sys.executable, "-m", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{words}: {done.stderr[-2000:]}")
    after = os.times()
    user = after.children_user - before.children_user
    return user + after.children_system - before.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", default="default")
    parser.add_argument("--checkout", type=Path, default=ROOT)
    args = parser.parse_args()
    checkout = args.checkout.resolve()
    os.chdir(ROOT)
    run = Study.load(args.study).runs[-1]
    chosen = ["--study", args.study, "--run", run.name]
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        shutil.copytree(ROOT / "params", here / "params")
        for stage in ("fetch", "prepare"):
            cpu_seconds([f"pipelines.{stage}", "--dataset", run.dataset.name], here, checkout)
        cpu_seconds(["pipelines.track", "--init"], here, checkout)
        for pushed in (True, False):
            # What was pushed a moment ago is not due.
            (here / "work" / args.study).mkdir(parents=True, exist_ok=True)
            (here / "work" / args.study / "pushed").touch()
            every = {} if pushed else {"SAR_PUSH_EVERY": "1e9"}
            for stage in ("train", "evaluate"):
                seconds = cpu_seconds([f"pipelines.{stage}", *chosen], here, checkout, **every)
                what = "pushed" if pushed else "not pushed"
                print(f"{run.name} {stage:8} {what:10} {seconds:6.1f}", flush=True)


if __name__ == "__main__":
    main()
