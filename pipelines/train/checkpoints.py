"""Checkpoints that a kill at any moment leaves usable, and trainings that go on from them.

mmengine writes a checkpoint in place, names the newest in a pointer file and trusts both. Here a
checkpoint arrives by rename, the pointer is not read, and a checkpoint counts only when all its
checksums hold. It holds tensors and plain values alone, and is read as such: none can run code.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.model import is_model_wrapper
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from mmengine.utils import apply_to

from pipelines.base.durable import sync, written_whole
from pipelines.base.errors import PipelineError
from pipelines.running.processes import rank

if TYPE_CHECKING:
    from mmengine.runner import Runner as _Runner
else:
    _Runner = object  # The Runner itself comes with the subclass.

_NAME = re.compile(r"iter_(\d+)\.pth")
_LOCK = "checkpoints.lock"
_DONE = ".done"
_LOGS = ("*/vis_data/scalars.json", "diagnostics.jsonl", "times.csv")

# What zipfile and torch raise for damaged bytes.
_DAMAGED = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError)


def iteration_of(path: Path) -> int:
    """How many iterations the checkpoint at `path` has behind it."""
    return int(_NAME.sub(r"\1", path.name))


def newest_whole(work: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest checkpoint in `work` that is whole, or None where there is none.

    Args:
        warn: told of each newer one that is damaged, by its name, and of what is done instead.
    """
    found = sorted(
        (path for path in work.glob("iter_*.pth") if _NAME.fullmatch(path.name)),
        key=iteration_of,
        reverse=True,
    )
    for older, path in enumerate(found, start=1):
        damage = _damage(path)
        if damage is None:
            return path
        instead = f"trying {found[older].name}" if older < len(found) else "none is left"
        warn(f"{path}: this checkpoint is damaged ({damage}); {instead}")
    return None


def _damage(path: Path) -> str | None:
    """What is wrong with the file at `path`; None for a whole archive of `torch.save`."""
    try:
        with zipfile.ZipFile(path) as archive:
            # Compares each record with its CRC-32, before anything is unpickled.
            if broken := archive.testzip():
                return f"the checksum of {broken} is wrong"
        torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError:
        return "it holds more than tensors and plain values, as those of earlier versions did"
    except _DAMAGED as error:
        return (str(error) or type(error).__name__).partition(". ")[0]
    return None


@contextlib.contextmanager
def only_one(work: Path) -> Iterator[None]:
    """Refuse to train in `work` while another process does.

    A Snakemake that was killed leaves its jobs running, and so does one that lost its cluster.

    Raises:
        PipelineError: when another process holds the folder.
    """
    if rank() > 0:
        # Of the processes of one training, the first stands for all.
        yield
        return
    work.mkdir(parents=True, exist_ok=True)
    with (work / _LOCK).open("a+") as file:
        try:
            # A record lock: processes that load data, which are forks of this one, do not inherit
            # it, and it ends with this process when they do not yet.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            raise PipelineError(
                f"{work / _LOCK}: another process ({file.read().strip() or 'unknown'}) trains this "
                "run; wait for it, or end it, and give the same command again"
            ) from None
        file.truncate(0)
        file.write(f"pid {os.getpid()} on {os.uname().nodename}")
        file.flush()
        yield


def discard(work: Path) -> None:
    """Remove the work folder of a finished training: whole at first, by rename.

    A kill in between leaves no folder from which half of a training would be resumed.
    """
    doomed = work.with_name(work.name + _DONE)
    shutil.rmtree(doomed, ignore_errors=True)  # of an earlier kill
    work.replace(doomed)
    shutil.rmtree(doomed)


class PlainHook(Hook):
    """Keep the curves in checkpoints as tensors: an object of mmengine's could be any object."""

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        checkpoint["message_hub"] = apply_to(
            checkpoint["message_hub"], lambda value: isinstance(value, np.generic), np.generic.item
        )
        scalars = checkpoint["message_hub"]["log_scalars"]
        for name, buffer in scalars.items():
            scalars[name] = {
                "values": [torch.from_numpy(values) for values in buffer.data],
                "max_length": buffer.max_length,
            }

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        # mmengine would execute it, to compare numbers of GPUs.
        checkpoint["meta"].pop("config", None)
        scalars = checkpoint["message_hub"]["log_scalars"]
        for name, kept in scalars.items():
            values = [tensor.cpu().numpy() for tensor in kept["values"]]
            scalars[name] = HistoryBuffer(*values, max_length=kept["max_length"])


class ResumeHook(Hook):
    """Let a resumed training see the random numbers and log the lines of an uninterrupted one.

    Two things are lost in a kill that mmengine does not bring back. The checkpoint of an iteration
    comes before the validation after it, which may not have ended: it is done (again). And a new
    iterator over the data draws a number, which an uninterrupted training draws at its start only.
    """

    def before_train_epoch(self, runner: Any) -> None:
        loop = runner.train_loop
        if loop.iter == 0:
            return
        loop.dataloader.generator = torch.Generator()
        if runner.val_loop is not None and _validates_at(loop, loop.iter):
            runner.val_loop.run()


def _validates_at(loop: Any, iteration: int) -> bool:
    """As mmengine's IterBasedTrainLoop decides it."""
    return iteration >= loop.val_begin and (
        iteration % loop.val_interval == 0 or iteration == loop.max_iters
    )


class CheckpointedRunner(_Runner):
    """For a Runner: its checkpoints are written whole, and the newest whole one is resumed."""

    _resume: bool
    _has_loaded: bool
    _load_from: str | None

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        if is_main_process():
            with written_whole(Path(out_dir) / filename) as new:
                super().save_checkpoint(out_dir, new.name, *args, **kwargs)
                # What was logged before it is not logged again by whoever goes on from it.
                for log in (path for kind in _LOGS for path in Path(self.work_dir).glob(kind)):
                    sync(log)

    def load_checkpoint(self, filename: str, map_location: Any = "cpu", **kwargs: Any) -> dict:
        """As mmengine does, which would load what is refused here by pickle."""
        checkpoint: dict = torch.load(filename, map_location=map_location, weights_only=True)
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        _load_checkpoint_to_model(model, checkpoint, **kwargs)
        self._has_loaded = True
        return checkpoint

    def load_or_resume(self) -> None:
        if self._resume and self._load_from is None:
            newest = newest_whole(Path(self.work_dir), self.logger.warning)
            self._resume = newest is not None
            if newest is None:
                self.logger.info(
                    "no checkpoint to go on from; the training starts at its beginning"
                )
            else:
                self.logger.info(f"resumed from {newest}")
                self._load_from = str(newest)
        super().load_or_resume()
