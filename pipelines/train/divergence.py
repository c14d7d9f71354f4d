"""Stop a training whose loss is no number any more: what it would go on with is worth nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook

from pipelines.base.errors import PipelineError
from pipelines.study import Run
from pipelines.train.checkpoints import iteration_of, newest_whole


class FiniteHook(Hook):
    """Raise PipelineError at the first loss that is NaN or infinite.

    And at a checkpoint with such weights, instead of writing it: whatever checkpoint there is, is a
    good one. The updates that a gradient scaler skips in half precision are neither.
    """

    priority = "ABOVE_NORMAL"  # Before the hooks that log, and that write a checkpoint.

    def __init__(self, run: Run) -> None:
        self._run = run

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if bool(torch.isfinite(outputs["loss"]).all()):
            return
        # The terms of the total, whose names hold the word.
        terms = {name: float(term) for name, term in outputs.items() if "loss" in name}
        wrong = [f"{name} = {term}" for name, term in terms.items() if not math.isfinite(term)]
        if len(wrong) > 1:
            wrong.remove(f"loss = {terms['loss']}")
        self._stop(runner, "the loss is", ", ".join(wrong))

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        wrong = [
            name
            for name, tensor in checkpoint["state_dict"].items()
            if tensor.is_floating_point() and not torch.isfinite(tensor).all()
        ]
        if wrong:
            more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            self._stop(runner, "weights are", ", ".join(wrong[:3]) + more)

    def _stop(self, runner: Any, what: str, which: str) -> None:
        good = newest_whole(Path(runner.work_dir), runner.logger.warning)
        last = (
            f"the last good checkpoint is {good} (iteration {iteration_of(good)})"
            if good is not None
            else "there is no checkpoint yet"
        )
        raise PipelineError(
            f"{self._run.study.path}: {self._run.name}: {what} not finite after iteration "
            f"{runner.iter + 1}: {which}; {last}; docs/faults.md says what to do"
        )
