"""mmengine's Runner, with a console that several runs can share."""

from __future__ import annotations

import importlib
import logging
from types import SimpleNamespace
from typing import Any

import torch
from mmengine.dist import broadcast
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import MMDistributedDataParallel, is_model_wrapper, revert_sync_batchnorm
from mmengine.registry import VISUALIZERS
from mmengine.runner import Runner
from mmengine.visualization import Visualizer

from pipelines.study import Run
from pipelines.study.run_options import option_modules
from pipelines.train.checkpoints import CheckpointedRunner
from sar.packaged import register_mmseg


def register(run: Run) -> None:
    """Make known to mmengine what the config of a training of `run` names."""
    register_mmseg()
    # Named, so that the files a training depends on are seen to hold them.
    from pipelines.train import hooks, validation  # noqa: F401

    for module in option_modules(run):
        importlib.import_module(module)


@VISUALIZERS.register_module()
class CurveWriter(Visualizer):
    """mmengine's Visualizer, which hands on what is logged; it draws nothing and makes no figure,
    for which it would import matplotlib."""

    def _initialize_fig(self, fig_cfg: dict[str, Any]) -> tuple:
        return None, SimpleNamespace(get_dpi=lambda: None), None


class QuietRunner(CheckpointedRunner, Runner):
    """A Runner whose console lines carry the experiment's name, one line a message.

    Listings of the config, the environment, the hooks and the groups of parameters, hundreds of
    lines at every start, go to the log file in the work folder only.
    """

    # mmengine knows logger, hub and visualizer by a training's name and second, and would hand out
    # those of one that ended in this very second: its files, its curves, a folder that is gone.
    def build_message_hub(self, message_hub: dict | None = None) -> MessageHub:
        MessageHub._instance_dict.pop(self._experiment_name, None)
        return super().build_message_hub(message_hub)

    def build_visualizer(self, visualizer: Any = None) -> Visualizer:
        CurveWriter._instance_dict.pop(self._experiment_name, None)
        return super().build_visualizer(visualizer)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        MMLogger._instance_dict.pop(self._experiment_name, None)
        name = self.cfg.experiment_name
        logger = super().build_logger(*args, logger_name=name, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_no_listing)
        return logger

    def wrap_model(self, model_wrapper_cfg: dict | None, model: torch.nn.Module) -> torch.nn.Module:
        """As mmengine does, and also for several processes without GPUs.

        There, batch norm is that of each process: the synchronised one refuses CPU tensors.
        """
        if not self.distributed or torch.cuda.is_available():
            return super().wrap_model(model_wrapper_cfg, model)
        return MMDistributedDataParallel(revert_sync_batchnorm(model), broadcast_buffers=False)

    def _init_model_weights(self) -> None:
        """As mmengine does, but on the CPU: a GPU's generator draws other numbers, and a run would
        start from other weights there.
        """
        model = self.model.module if is_model_wrapper(self.model) else self.model
        device = next(model.parameters()).device
        model.cpu().init_weights()
        model.to(device)
        for value in model.state_dict().values():
            broadcast(value)


def _no_listing(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return "\n" not in message and not message.startswith("paramwise_options")
