"""Gradient accumulation: a batch in parts, one after the other, and one step for all of them."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.registry import LOOPS
from mmengine.runner import IterBasedTrainLoop


@LOOPS.register_module()
class AccumulatingTrainLoop(IterBasedTrainLoop):
    """Cuts each batch into `parts` equal parts.

    mmengine's own accumulation counts a part as an iteration. Here an iteration is a step of the
    optimizer with a whole batch, as it is without accumulation: schedules, logs and checkpoints
    keep their meaning, the batches are the same, and no checkpoint is taken between two parts.

    A module with an attribute `follows` (as `sar.SemanticAnchorRegularizer`) has it set to False
    for all parts but the first: what moves once a batch moves once a step.

    Args:
        parts: the optimizer wrapper's `accumulative_counts`.
    """

    def __init__(self, *args: Any, parts: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parts = parts

    def run(self) -> None:
        # The wrapper counts parts.
        self.runner.optim_wrapper.initialize_count_status(
            self.runner.model, self._iter * self.parts, self._max_iters * self.parts
        )
        super().run()

    def run_iter(self, data_batch: dict[str, list]) -> None:
        runner = self.runner
        runner.call_hook("before_train_iter", batch_idx=self._iter, data_batch=data_batch)
        followers = [each for each in runner.model.modules() if hasattr(each, "follows")]
        outputs = []
        for index, part in enumerate(self._cut(data_batch)):
            for module in followers:
                module.follows = index == 0
            outputs.append(runner.model.train_step(part, optim_wrapper=runner.optim_wrapper))
        for module in followers:
            module.follows = True
        means = {
            name: torch.stack([each[name].detach() for each in outputs]).mean(dim=0)
            for name in outputs[0]
        }
        runner.call_hook(
            "after_train_iter", batch_idx=self._iter, data_batch=data_batch, outputs=means
        )
        self._iter += 1

    def _cut(self, batch: dict[str, list]) -> list[dict[str, list]]:
        size = len(batch["inputs"]) // self.parts
        return [
            {name: values[start : start + size] for name, values in batch.items()}
            for start in range(0, size * self.parts, size)
        ]
