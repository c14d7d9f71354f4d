"""Seconds per iteration of a study's trainings on this machine, for `python -m pipelines.plan`.

Of each data set, model and method one step is timed: forward, backward and optimizer on a random
batch of the study's size, without loading images; the median of `--steps` after `--warm-up` others.
A row goes to `benchmarks/step_times.csv`, in the place of an older one for the same device, model,
method, crop and batch. What the device has no memory for is named and left out, and so are
recipes without a crop. `--run` chooses one run.
"""

from __future__ import annotations

import statistics
import sys
import time

import pandas as pd
import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mmseg.utils import register_all_modules

from pipelines.base.artifacts import write_whole
from pipelines.configs.model import trained_model
from pipelines.configs.training import optim_wrapper
from pipelines.plan import STEP_TIMES, crop
from pipelines.running.cli import chosen_runs, guarded, stage_parser
from pipelines.study import Run

KEY = ["device", "model", "method", "crop", "batch"]


def seconds_per_step(run: Run, steps: int, warm_up: int) -> float:
    """Median seconds of one training step of `run`, which has a crop."""
    cuda = torch.cuda.is_available()
    model = MODELS.build(trained_model(run))
    model = (model.cuda() if cuda else revert_sync_batchnorm(model)).train()
    optimizer = build_optim_wrapper(model, optim_wrapper(run))
    size = run.training.augmentation.crop_size
    batch = {"inputs": [], "data_samples": []}
    for _ in range(run.training.batch_size):
        sample = SegDataSample(metainfo={"img_shape": tuple(size)})
        labels = torch.randint(len(run.dataset.card.classes), (1, *size))
        sample.set_data({"gt_sem_seg": PixelData(data=labels)})
        batch["inputs"].append(torch.randint(256, (3, *size), dtype=torch.uint8))
        batch["data_samples"].append(sample)
    times = []
    for _ in range(warm_up + steps):
        start = time.perf_counter()
        model.train_step(batch, optim_wrapper=optimizer)
        if cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[warm_up:])


def main(argv: list[str] | None = None) -> int:
    parser = stage_parser(__doc__, runs=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warm-up", type=int, default=5)
    args = parser.parse_args(argv)

    def command() -> None:
        register_all_modules()
        init_default_scope("mmseg")
        runs = chosen_runs(args)
        torch.set_num_threads(runs[0].study.file.threads)
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        for run in {(run.dataset.name, run.model, run.method): run for run in runs}.values():
            if run.training.augmentation.crop_size is None:
                print(f"left out: {run.name}: no crop_size", file=sys.stderr)
                continue
            try:
                seconds = seconds_per_step(run, args.steps, args.warm_up)
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
