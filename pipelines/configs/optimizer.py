"""The config of a training's optimizer and of its learning rate."""

from __future__ import annotations

from typing import Any

from mmengine.device import is_cuda_available

from pipelines.base.errors import PipelineError
from pipelines.study import Run, params_file
from pipelines.study.recipe import Optimizer, Schedule
from sar.weight_decay import without_decay


def optim_wrapper(run: Run, precision: str) -> dict[str, Any]:
    """Config of a training's optimizer, in the wrapper that computes in `precision`.

    Raises:
        PipelineError: for fp16 without a GPU.
    """
    entry = run.entry
    parts: dict[str, Any] = (
        {"accumulative_counts": entry.accumulate} if entry.accumulate > 1 else {}
    )
    parts |= _optimizer(run.training.optimizer)
    if run.spec.plugin is not None and run.training.optimizer.weight_decay:
        # What a method trains of its own has no gradient most of the time: decay alone would move
        # it, and with it the features. A deviation from the released recipe.
        parts |= without_decay(parts.get("paramwise_cfg"))
    if precision in ("float32", "tf32"):
        return {"type": "OptimWrapper"} | parts
    if precision == "bf16":
        return {"type": "BFloat16OptimWrapper"} | parts
    if not is_cuda_available():
        raise PipelineError(
            f"{params_file('models', run.model)}: precision: fp16 needs a GPU, and there is none; "
            "expected bf16 or float32"
        )
    return {"type": "AmpOptimWrapper", "dtype": "float16", "loss_scale": "dynamic"} | parts


def _optimizer(optimizer: Optimizer) -> dict[str, Any]:
    # Fused updates are a tenth of a small model's step on a CPU, and the same on a GPU.
    settings = optimizer.model_dump(exclude_none=True, exclude={"custom_keys"}) | {"fused": True}
    if optimizer.custom_keys is None:
        return {"optimizer": settings}
    multipliers = {name: value.model_dump() for name, value in optimizer.custom_keys.items()}
    return {"optimizer": settings, "paramwise_cfg": {"custom_keys": multipliers}}


def param_scheduler(run: Run) -> list[dict[str, Any]]:
    """Configs of the learning rate: a polynomial decay, after a warm-up where there is one."""
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
        "start_factor": _warmup_start(schedule),
        "begin": 0,
        "end": schedule.warmup_iterations,
        "by_epoch": False,
    }
    return [warmup, decay]


def _warmup_start(schedule: Schedule) -> float:
    """The share of the learning rate that the first step has."""
    if schedule.warmup_start_factor is not None:
        return schedule.warmup_start_factor
    return 1.0 / schedule.warmup_iterations
