"""Training images loaded in worker processes, the same as without them; and how many of these.

Which worker loads a batch, and what it loaded before, must not matter. So the sampler numbers the
batches, and a worker sets its random generators by that number before it loads one: to the state
in which `ReseedHook` has them when the training's own process loads the batch. Weights are equal
to the bit for any number of workers, and a resumed training sees what an uninterrupted one sees.
"""

from __future__ import annotations

import copy
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_rank
from mmengine.registry import DATA_SAMPLERS, DATASETS
from torch.utils.data import Dataset

from pipelines.running.devices import runs_at_once
from pipelines.study.schema import StudyFile
from pipelines.train.hooks import reseed

_MOST = 8
"""Workers of a training that may choose: more than feed a GPU with decoded images."""
_AHEAD = 4
"""Batches that a worker has ready before a GPU."""
_SHARED = Path("/dev/shm")
"""By which workers hand batches over."""
_PIXEL = 3 + 8
"""Bytes of it in a batch: three colours and its label, of int64."""


def number_of_workers(file: StudyFile) -> int:
    """How many processes load the images of one process that trains, as the study says.

    `auto` is none on a CPU, where they would compete with the training itself. On a GPU they are
    the cores that this process may use, shared among all that train here at once, less the one of
    the training: at least one, at most eight, and no more than have their batches fit into shared
    memory, of which a container has 64 MiB if nobody asks for more.
    """
    if file.workers != "auto":
        return file.workers
    if not torch.cuda.is_available():
        return 0
    sharing = runs_at_once() * file.processes
    cores = len(os.sched_getaffinity(0))
    workers = min(max(cores // sharing - 1, 1), _MOST)
    fitting = _fitting(file, sharing)
    if fitting < workers:
        logging.getLogger("mmengine").warning(
            "workers: auto is %d and not %d: that many have %d batches each fit into %s; more of "
            "it (docker run --shm-size 4g) loads faster",
            fitting,
            workers,
            _AHEAD,
            _SHARED,
        )
    return min(fitting, workers)


def _fitting(file: StudyFile, sharing: int) -> int:
    """How many workers' batches half of the free shared memory holds, of so many trainings; of
    images whose size no crop tells it is any number."""
    crop, training = file.training.augmentation.crop_size, file.training
    if crop is None or not _SHARED.is_dir():
        return _MOST
    batch = training.batch_size // file.processes * crop[0] * crop[1] * _PIXEL
    return shutil.disk_usage(_SHARED).free // 2 // (sharing * _AHEAD * batch)


def pinned(loader: ConfigDict) -> ConfigDict:
    """The config of a training loader, for a GPU where there is one: batches from workers lie in
    memory that it reads by itself, and the workers go ahead by a few of them."""
    if not loader["num_workers"] or not torch.cuda.is_available():
        return loader
    return ConfigDict(copy.deepcopy(loader), pin_memory=True, prefetch_factor=_AHEAD)


def in_workers(loader: ConfigDict, workers: int, seed: int) -> ConfigDict:
    """The config of a training loader, made one that loads in `workers` processes.

    Args:
        loader: as `configs.images.dataloader` gives it for the split train.
        seed: that of `ReseedHook`.
    """
    loader = copy.deepcopy(loader)
    loader["num_workers"] = workers
    loader["persistent_workers"] = True
    loader["sampler"] |= {"type": "NumberedSampler", "batch_size": loader["batch_size"]}
    loader["dataset"] = {"type": "ReseededDataset", "dataset": loader["dataset"], "seed": seed}
    return loader


@DATA_SAMPLERS.register_module()
class NumberedSampler(InfiniteSampler):
    """The stream of an `InfiniteSampler` as pairs of the batch's number and the image's index."""

    def __init__(self, *args: Any, batch_size: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.batch_size = batch_size
        self.skipped = 0

    def skip(self, num_samples: int) -> None:
        """Go on where a resumed training was."""
        super().skip(num_samples)
        self.skipped = num_samples

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for position, index in enumerate(super().__iter__(), self.skipped):
            yield position // self.batch_size, index


@DATASETS.register_module()
class ReseededDataset(Dataset):
    """A dataset that is asked for whole batches, by the pairs of `NumberedSampler`."""

    def __init__(self, dataset: dict[str, Any], seed: int) -> None:
        self.dataset = DATASETS.build(dataset)
        self.seed = seed
        self.rank = get_rank()

    @property
    def metainfo(self) -> dict[str, Any]:
        return self.dataset.metainfo

    def full_init(self) -> None:
        self.dataset.full_init()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, pair: tuple[int, int]) -> Any:
        raise TypeError(f"got {pair!r}, expected a whole batch, which is seeded as one")

    def __getitems__(self, pairs: Sequence[tuple[int, int]]) -> list[Any]:
        reseed(self.seed, pairs[0][0], self.rank)
        return [self.dataset[index] for _, index in pairs]
