"""From a run of a study to the mmengine config that trains it, and the model that is evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import is_cuda_available

from pipelines.base.errors import PipelineError
from pipelines.configs.images import dataloader, evaluation_pipeline, training_pipeline
from pipelines.configs.model import trained_model
from pipelines.study import Run, params_file
from pipelines.study.run_options import plugin_module
from pipelines.study.schema import ModelEntry, Optimizer, Training


def training_config(run: Run, work_dir: Path) -> Config:
    """The complete config of a training, for mmengine's Runner.

    The processes of the study share each batch: mmengine's sampler deals the images of a batch of
    one process out to them, and DDP averages their gradients.
    """
    training, processes, entry = run.training, run.study.file.processes, run.entry
    batch = training.batch_size // processes
    plugin = plugin_module(run)
    validated = training.validation_interval is not None
    config = {
        "default_scope": "mmseg",
        "experiment_name": run.name,
        "model": trained_model(run),
        "work_dir": work_dir.as_posix(),
        "resume": True,
        "randomness": {"seed": run.seed},
        "env_cfg": {"cudnn_benchmark": False, "mp_cfg": {"opencv_num_threads": 0}},
        "train_dataloader": dataloader(run.dataset, "train", batch, training_pipeline(run)),
        "train_cfg": {
            **_loop(entry),
            "max_iters": training.iterations,
            "val_interval": training.validation_interval or training.iterations,
        },
        "optim_wrapper": optim_wrapper(run),
        "param_scheduler": _schedule(run),
        "default_hooks": {
            "logger": {
                "type": "LoggerHook",
                "interval": training.log_interval,
                "log_metric_by_epoch": False,
            },
            "checkpoint": {
                "type": "CheckpointHook",
                "by_epoch": False,
                "interval": training.checkpoint_interval,
                "max_keep_ckpts": 2,
            },
        },
        "custom_hooks": [
            *([{"type": "ChannelsLastHook"}] if entry.channels_last else []),
            *(
                [{"type": "PretrainedBackboneHook", "file": run.weights.backbone.as_posix()}]
                if run.weights
                else []
            ),
            *([{"type": "CompileHook"}] if entry.compile else []),
            {"type": "DiagnosticsHook", "interval": _diagnostics_interval(training)},
            {"type": "ReseedHook", "seed": run.seed, "priority": "VERY_LOW"},
            *([{"type": "MeanOfRanksHook"}] if processes > 1 else []),
        ],
        "log_processor": {"by_epoch": False},
        "visualizer": {
            "type": "Visualizer",
            "vis_backends": [{"type": "LocalVisBackend"}],
        },
    }
    if plugin is not None:
        # For whoever builds the model from this config elsewhere.
        config["custom_imports"] = {"imports": [plugin], "allow_failed_imports": False}
    if processes > 1:
        config["launcher"] = "pytorch"
    if validated:
        config["val_dataloader"] = dataloader(run.dataset, "val", batch, evaluation_pipeline(run))
        config["val_cfg"] = {"type": "ValLoop"}
        config["val_evaluator"] = {
            "type": "IoUMetric",
            "iou_metrics": ["mIoU"],
            "ignore_index": run.dataset.card.ignore_index,
        }
    elif run.evaluation.base_size is not None:
        # Nothing here uses it; it tells who predicts with the weights how to feed the model.
        config["test_pipeline"] = evaluation_pipeline(run)
    return Config(config)


def _loop(entry: ModelEntry) -> dict[str, Any]:
    if entry.accumulate == 1:
        return {"type": "IterBasedTrainLoop"}
    return {"type": "AccumulatingTrainLoop", "parts": entry.accumulate}


def optim_wrapper(run: Run) -> dict[str, Any]:
    """Config of a training's optimizer, in the wrapper that computes in the entry's precision.

    Raises:
        PipelineError: for fp16 without a GPU.
    """
    entry = run.entry
    parts = {"accumulative_counts": entry.accumulate} if entry.accumulate > 1 else {}
    parts |= _optimizer(run.training.optimizer)
    if entry.precision == "float32":
        return {"type": "OptimWrapper"} | parts
    if entry.precision == "bf16":
        return {"type": "BFloat16OptimWrapper"} | parts
    if not is_cuda_available():
        raise PipelineError(
            f"{params_file('models', run.model)}: precision: fp16 needs a GPU, and there is none; "
            "expected bf16 or float32"
        )
    return {"type": "AmpOptimWrapper", "dtype": "float16", "loss_scale": "dynamic"} | parts


def _diagnostics_interval(training: Training) -> int:
    """That of the log, or longer: about 200 records of a long training are enough to draw it."""
    logs = -(-training.iterations // training.log_interval)
    return training.log_interval * max(1, -(-logs // 200))


def _optimizer(optimizer: Optimizer) -> dict[str, Any]:
    # Fused updates are a tenth of a small model's step on a CPU, and the same on a GPU.
    settings = optimizer.model_dump(exclude_none=True, exclude={"custom_keys"}) | {"fused": True}
    if optimizer.custom_keys is None:
        return {"optimizer": settings}
    multipliers = {name: value.model_dump() for name, value in optimizer.custom_keys.items()}
    return {"optimizer": settings, "paramwise_cfg": {"custom_keys": multipliers}}


def _schedule(run: Run) -> list[dict[str, Any]]:
    schedule, iterations = run.training.schedule, run.training.iterations
    decay = {
        "type": "PolyLR",
        "power": schedule.power,
        "eta_min": schedule.min_lr,
        "begin": schedule.warmup_iterations,
        "end": iterations,
        "by_epoch": False,
    }
    if not schedule.warmup_iterations:
        return [decay]
    warmup = {
        "type": "LinearLR",
        "start_factor": 1.0 / schedule.warmup_iterations,
        "begin": 0,
        "end": schedule.warmup_iterations,
        "by_epoch": False,
    }
    return [warmup, decay]
