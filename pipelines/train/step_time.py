"""Seconds of a training step on this machine, for plans and benchmarks; no result depends on it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from pipelines.base.errors import PipelineError
from pipelines.configs.images import dataloader, training_pipeline
from pipelines.configs.model import trained_model
from pipelines.configs.numerics import allow_tf32, numerics
from pipelines.configs.optimizer import optim_wrapper
from pipelines.study import Run
from pipelines.train.runner import register
from pipelines.train.trial import quiet

Batches = Iterator[dict[str, Any]]
"""What a loader gives, without end."""


def seconds_per_step(run: Run, batches: Batches, steps: int = 10, warm_up: int = 3) -> float:
    """Median seconds to get a batch and train on it: forward, backward, optimizer.

    In the numbers and the order of memory that the training has. Published weights are not loaded:
    they take no longer than others. Of one thread on a CPU it is the thread's own time, as on a
    free core: what else the machine does at the moment tells nothing of the recipe.
    """
    register(run)
    computed = numerics(run)
    allow_tf32(computed.precision == "tf32")
    cuda = torch.cuda.is_available()
    clock = time.perf_counter if cuda or torch.get_num_threads() > 1 else time.process_time
    with quiet():
        model = MODELS.build(trained_model(run))
        model = (model.cuda() if cuda else revert_sync_batchnorm(model)).train()
        if computed.channels_last:
            model = model.to(memory_format=torch.channels_last)
        optimizer = build_optim_wrapper(model, optim_wrapper(run, computed.precision))
    times = []
    for _ in range(warm_up + steps):
        start = clock()
        model.train_step(next(batches), optim_wrapper=optimizer)
        if cuda:
            torch.cuda.synchronize()
        times.append(clock() - start)
    return statistics.median(times[warm_up:])


def noise(run: Run) -> Batches:
    """One random batch of the recipe's size, again and again: without loading images.

    Raises:
        PipelineError: for a recipe without a crop, whose images have a size that is not known here.
    """
    size = run.training.augmentation.crop_size
    if size is None:
        raise PipelineError(f"{run.study.path}: training.augmentation.crop_size: expected one")
    batch: dict[str, Any] = {"inputs": [], "data_samples": []}
    for _ in range(run.training.batch_size):
        sample = SegDataSample(metainfo={"img_shape": tuple(size)})
        labels = torch.randint(len(run.dataset.card.classes), (1, *size))
        sample.set_data({"gt_sem_seg": PixelData(data=labels)})
        batch["inputs"].append(torch.randint(256, (3, *size), dtype=torch.uint8))
        batch["data_samples"].append(sample)
    while True:
        yield batch


def images(run: Run) -> Batches:
    """Batches of the prepared images, loaded and augmented as a training does it."""
    batch = run.training.batch_size
    config = dataloader(run.dataset, "train", batch, training_pipeline(run))
    yield from Runner.build_dataloader(config, seed=run.seed)
