"""The config of a training, for mmengine's Runner."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from mmengine.config import Config

from pipelines.configs.images import dataloader, evaluation_pipeline, training_pipeline
from pipelines.configs.model import needs_edges, trained_model
from pipelines.configs.numerics import Numerics, numerics
from pipelines.configs.optimizer import optim_wrapper, param_scheduler
from pipelines.study import Run, own_code
from pipelines.study.recipe import Training
from pipelines.study.run_options import plugin_module

_MOST_DIAGNOSTICS = 200
"""Records of a method's diagnostics where the study names no interval: enough for a curve."""


def training_config(run: Run, work_dir: Path) -> Config:
    """The complete config of a training, for mmengine's Runner.

    The processes of the study share each batch: mmengine's sampler deals the images of a batch of
    one process out to them, and DDP averages their gradients.
    """
    training, processes = run.training, run.study.file.processes
    computed = numerics(run)
    batch = training.batch_size // processes
    model = trained_model(run)
    pipeline = training_pipeline(run, edges=needs_edges(model))
    config = {
        "default_scope": "mmseg",
        "experiment_name": run.name,
        "model": model,
        "work_dir": work_dir.as_posix(),
        "resume": True,
        "randomness": {"seed": run.seed},
        "env_cfg": {"cudnn_benchmark": False, "mp_cfg": {"opencv_num_threads": 0}},
        "train_dataloader": dataloader(run.dataset, "train", batch, pipeline),
        "train_cfg": _loop(run),
        "optim_wrapper": optim_wrapper(run, computed.precision),
        "param_scheduler": param_scheduler(run),
        "default_hooks": _default_hooks(training),
        "custom_hooks": _custom_hooks(run, computed),
        "log_processor": {"by_epoch": False},
        "visualizer": {"type": "Visualizer", "vis_backends": [{"type": "LocalVisBackend"}]},
    }
    # For whoever builds the model from this config elsewhere.
    plugin, own = plugin_module(run), own_code.own_modules(run.entry)
    imports = [*([] if plugin is None else [plugin]), *own]
    if imports:
        config["custom_imports"] = {"imports": imports, "allow_failed_imports": False}
    if own:
        config["custom_code"] = own_code.sources(run.entry)
    if processes > 1:
        config["launcher"] = "pytorch"
    if training.validation_interval is not None:
        config |= _validation(run, batch)
    elif run.evaluation.base_size is not None:
        # Nothing here uses it; it tells who predicts with the weights how to feed the model.
        config["test_pipeline"] = evaluation_pipeline(run)
    return Config(config)


def _loop(run: Run) -> dict[str, Any]:
    training, parts = run.training, run.entry.accumulate
    if parts == 1:
        kind: dict[str, Any] = {"type": "IterBasedTrainLoop"}
    else:
        kind = {"type": "AccumulatingTrainLoop", "parts": parts}
    return kind | {
        "max_iters": training.iterations,
        "val_interval": training.validation_interval or training.iterations,
    }


def _validation(run: Run, batch_size: int) -> dict[str, Any]:
    """What looks at the val split during a training."""
    return {
        "val_dataloader": dataloader(run.dataset, "val", batch_size, evaluation_pipeline(run)),
        "val_cfg": {"type": "ValLoop"},
        "val_evaluator": {
            "type": "IoUMetric",
            "iou_metrics": ["mIoU"],
            "ignore_index": run.dataset.card.ignore_index,
        },
    }


def _default_hooks(training: Training) -> dict[str, Any]:
    """Settings of the hooks that mmengine's Runner always has."""
    return {
        "logger": {
            "type": "LoggerHook",
            "interval": training.log_interval,
            "log_metric_by_epoch": False,
        },
        "checkpoint": {
            "type": "CheckpointHook",
            "by_epoch": False,
            "interval": training.checkpoint_interval,
            # One more than is needed, in case the disk damages the last.
            "max_keep_ckpts": 2,
        },
    }


def _custom_hooks(run: Run, computed: Numerics) -> list[dict[str, Any]]:
    """The hooks of `pipelines.train` that this training needs, in their order."""
    hooks: list[dict[str, Any]] = []
    if computed.channels_last:
        hooks.append({"type": "ChannelsLastHook"})
    if run.weights:
        hooks.append({"type": "PretrainedBackboneHook", "file": run.weights.backbone.as_posix()})
    if run.entry.compile:
        hooks.append({"type": "CompileHook"})
    hooks.append({"type": "DiagnosticsHook", "interval": _diagnostics_interval(run.training)})
    hooks.append({"type": "ReseedHook", "seed": run.seed, "priority": "VERY_LOW"})
    if run.study.file.processes > 1:
        hooks.append({"type": "MeanOfRanksHook"})
    return hooks


def _diagnostics_interval(training: Training) -> int:
    """That of the log, or where there are too many logs the least multiple that has few enough."""
    if training.diagnostics_interval is not None:
        return training.diagnostics_interval
    logs = math.ceil(training.iterations / training.log_interval)
    return training.log_interval * math.ceil(logs / _MOST_DIAGNOSTICS)
