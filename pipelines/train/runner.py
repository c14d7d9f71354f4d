"""mmengine's Runner, with a console that several runs can share."""

from __future__ import annotations

import importlib
import logging
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel, revert_sync_batchnorm
from mmengine.runner import Runner
from mmseg.utils import register_all_modules

from pipelines.study import Run
from pipelines.study.run_options import option_modules
from pipelines.train.checkpoints import CheckpointedRunner


def register(run: Run) -> None:
    """Make known to mmengine what the config of a training of `run` names."""
    register_all_modules()
    for module in ("pipelines.train.hooks", *option_modules(run)):
        importlib.import_module(module)


class QuietRunner(CheckpointedRunner, Runner):
    """A Runner whose console lines carry the experiment's name, one line a message.

    Listings of the config, the environment and the hooks, hundreds of lines at every start, go to
    the log file in the work folder only.
    """

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        name = self.cfg.experiment_name
        logger = super().build_logger(*args, logger_name=name, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_single_lines)
        return logger

    def wrap_model(self, model_wrapper_cfg: dict | None, model: torch.nn.Module) -> torch.nn.Module:
        """As mmengine does, and also for several processes without GPUs.

        There, batch norm is that of each process: the synchronised one refuses CPU tensors.
        """
        if not self.distributed or torch.cuda.is_available():
            return super().wrap_model(model_wrapper_cfg, model)
        return MMDistributedDataParallel(revert_sync_batchnorm(model), broadcast_buffers=False)


def _single_lines(record: logging.LogRecord) -> bool:
    return "\n" not in record.getMessage()
