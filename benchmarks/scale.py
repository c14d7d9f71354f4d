"""How planning, comparing, analysing, reporting and tracking grow with the runs of a study.

    python benchmarks/scale.py [--models 1 10] [--seeds 50]

Studies whose runs are made up, of two methods and so many models and seeds, in a temporary folder;
CPU seconds of this process and its children, one command after the other. Writes
`benchmarks/scale.csv`: `ratio` is the growth from the first study to the one of the row over that
of its number of runs, 1 where the time is linear and has no fixed part.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.pipelines import conftest as made_up  # noqa: E402

PYTHON = [sys.executable, "-m"]
PLAN = ["snakemake", "--snakefile", ROOT / "Snakefile", "--cores=1", "--config", "study=mini", "-n"]
COMMANDS = {
    "plan from nothing": PLAN,
    "compare": ["pipelines.compare", "--study", "mini"],
    "analyse": ["pipelines.analyse", "--study", "mini"],
    "report": ["pipelines.report", "--study", "mini"],
    "sync": ["pipelines.track", "--study", "mini"],
    "sync again": ["pipelines.track", "--study", "mini"],
}


def cpu_seconds(words: list) -> float:
    """Of a command that has to succeed."""
    before = os.times()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*PYTHON, *words], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    after = os.times()
    used = (after.children_user, after.children_system, before.children_user)
    return used[0] + used[1] - used[2] - before.children_system


def fabricate(folder: Path, models: int, seeds: int) -> int:
    """Make up a study in `folder`, which becomes the working directory; returns its runs."""
    os.chdir(folder)
    names = [f"net{i}" for i in range(models)]
    for name in names:
        # What a plan parses; no model is built.
        made_up._write_yaml(f"params/models/{name}.yaml", {"title": name, "config": "none.py"})
    methods = made_up._study_file()["methods"]
    methods.pop("longer")
    changes = {"models": names, "methods": methods, "seeds": list(range(seeds))}
    study = made_up.build(**changes)
    for run in study.runs:
        for name in ("weights.safetensors", "config.py"):
            run.output("train", name).write_bytes(b"")
    made_up.build(**changes)  # again, for the receipts
    return len(study.runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--seeds", type=int, default=50)
    args = parser.parse_args()
    rows: list[dict] = []
    first: dict[str, float] = {}
    fewest = 0
    for models in args.models:
        with tempfile.TemporaryDirectory() as folder:
            runs = fabricate(Path(folder), models, args.seeds)
            fewest = fewest or runs
            for name, words in COMMANDS.items():
                if name == "plan from nothing":
                    Path("results").rename("kept")
                seconds = cpu_seconds(words)
                if Path("kept").exists():
                    Path("kept").rename("results")
                first.setdefault(name, seconds)
                growth = seconds / first[name] / (runs / fewest)
                rows.append(
                    {"command": name, "runs": runs, "cpu_seconds": seconds, "ratio": growth}
                )
                # At once: the largest study takes long.
                table = pd.DataFrame(rows)
                table.to_csv(ROOT / "benchmarks/scale.csv", index=False, float_format="%.3g")
                print(f"{name:20} {runs:5} runs {seconds:7.1f} s  ratio {growth:.2f}", flush=True)
            os.chdir(ROOT)


if __name__ == "__main__":
    main()
