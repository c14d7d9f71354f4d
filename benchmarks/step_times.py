"""Seconds per iteration of a study's trainings on this machine, for `python -m pipelines.plan`.

Of each data set, model and method one step is timed: forward, backward and optimizer on a random
batch of the study's size, without loading images; the median of `--steps` after `--warm-up` others.
A row goes to `benchmarks/step_times.csv`, in the place of an older one for the same device, model,
method, crop and batch. What the device has no memory for is named and left out, and so are
recipes without a crop. `--run` chooses one run.
"""

from __future__ import annotations

import sys

import pandas as pd
import torch

from pipelines.base.artifacts import write_whole
from pipelines.plan import STEP_TIMES, crop
from pipelines.running.cli import chosen_runs, guarded, stage_parser
from pipelines.train.step_time import noise, seconds_per_step

KEY = ["device", "model", "method", "crop", "batch"]


def main(argv: list[str] | None = None) -> int:
    parser = stage_parser("step_times", __doc__, runs=True)
    parser.prog = "python benchmarks/step_times.py"
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warm-up", type=int, default=5)
    args = parser.parse_args(argv)

    def command() -> None:
        runs = chosen_runs(args)
        torch.set_num_threads(runs[0].study.file.threads)
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        for run in {(run.dataset.name, run.model, run.method): run for run in runs}.values():
            if run.training.augmentation.crop_size is None:
                print(f"left out: {run.name}: no crop_size", file=sys.stderr)
                continue
            try:
                seconds = seconds_per_step(run, noise(run), args.steps, args.warm_up)
            except torch.OutOfMemoryError:
                print(f"left out: {run.name}: no memory for it on {device}", file=sys.stderr)
                continue
            key = [device, run.model, run.method, crop(run), run.training.batch_size]
            _record(key, seconds, f"step_times.py: median of {args.steps} steps, no loading")
            print(f"{run.name}: {seconds:.4f} s on {device}")

    return guarded(command)


def _record(key: list, seconds: float, source: str) -> None:
    table = pd.read_csv(STEP_TIMES)
    table = table[~(table[KEY] == key).all(axis="columns")]
    table.loc[len(table)] = [*key, round(seconds, 4), source]
    write_whole(STEP_TIMES, table.to_csv(index=False, lineterminator="\n"))


if __name__ == "__main__":
    sys.exit(main())
