"""The processes of one run, as each of them sees it: who am I, and what do the others have?

torchrun (`launch` starts it) tells each process its rank in environment variables. Rank 0
alone writes, publishes and tracks. Without these variables a process is the only one of its run.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sized
from itertools import islice
from typing import Any, Literal, TypeVar

from pipelines.base.errors import PipelineError
from pipelines.study import Run

_T = TypeVar("_T")
_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def started_by_torchrun() -> bool:
    return all(name in os.environ for name in _VARIABLES)


def rank() -> int:
    """Of this process among those of its run; 0 writes."""
    return int(os.environ["RANK"]) if started_by_torchrun() else 0


def world() -> int:
    """How many processes the run has."""
    return int(os.environ["WORLD_SIZE"]) if started_by_torchrun() else 1


@contextlib.contextmanager
def joined(run: Run, collectives: Literal["model", "objects"]) -> Iterator[None]:
    """Work on `run` together with the other processes that torchrun started.

    Sums of tensors of a `model` go through nccl where there are GPUs; `objects` are sent by gloo. A
    process ends with the torchrun that started it, also when that is killed (on Linux).

    Raises:
        PipelineError: when torchrun started another number of processes than the study says, or
            more of them than this machine has GPUs; and for what the block raises as such, with the
            process named.
    """
    wanted = run.study.file.processes
    if world() != wanted:
        raise PipelineError(
            f"{run.study.path}: processes: is {wanted}, and torchrun started {world()}; expected "
            "as many as --nnodes times --nproc-per-node"
        )
    if world() == 1:
        yield
        return
    _end_with_parent()
    # Blocked in a collective, Python would not come to raise KeyboardInterrupt.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    import torch
    import torch.distributed as dist
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler

    errors = get_error_handler()
    errors.initialize()
    try:
        backend = "gloo"
        if torch.cuda.is_available():
            _choose_device(run)
            backend = "nccl" if collectives == "model" else "gloo"
        if not dist.is_initialized():
            dist.init_process_group(backend)
        yield
    except Exception as error:
        # For torchrun, which tells the first error of all.
        errors.record_exception(error)
        if isinstance(error, PipelineError):
            raise PipelineError(f"process {rank()} of {world()}: {error}") from error
        raise


class BatchShare:
    """The images of every W-th batch of a data set in its own order, W the number of processes.

    A sampler for mmengine's loaders: each image comes once, and in the batch in which one process
    alone would see it. What mmengine's own would do is to repeat images where they cannot be shared
    equally.
    """

    def __init__(self, dataset: Sized, batch_size: int, seed: int | None = None) -> None:
        images = range(len(dataset))
        starts = range(rank() * batch_size, len(dataset), world() * batch_size)
        self.indices = [i for start in starts for i in images[start : start + batch_size]]

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


def gathered(items: Iterable[_T], batch_size: int) -> Iterator[_T]:
    """On rank 0, the items of all processes in the order of one process; on others, nothing.

    Args:
        items: what this process makes of the images of its `BatchShare`, one for each.
    """
    if world() == 1:
        yield from items
        return
    import torch
    import torch.distributed as dist

    items = iter(items)
    while True:
        batch = list(islice(items, batch_size))
        left = torch.tensor(len(batch))
        dist.all_reduce(left)
        if not left:
            return
        batches: list[Any] | None = [None] * world() if rank() == 0 else None
        dist.gather_object(batch, batches)
        for each in batches or ():
            yield from each


def _choose_device(run: Run) -> None:
    import torch

    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if torch.cuda.device_count() < here:
        raise PipelineError(
            f"{run.study.path}: processes: {here} of {world()} are on this machine, which shows "
            f"{torch.cuda.device_count()} GPUs; expected one for each"
        )
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


def _end_with_parent() -> None:
    """Have the kernel kill this process when its parent ends.

    torchrun starts its processes in sessions of their own, so that a signal to its process group
    does not reach them; and when it is killed it cannot pass on anything.
    """
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
