"""mmengine hooks of the training stage."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class ReseedHook(Hook):
    """Derive all randomness from (seed, iteration).

    Augmentation and dropout of iteration i then do not depend on what was drawn before it: two
    methods with the same seed see the same batches, and a resumed training sees what an
    uninterrupted one would have seen. Works for data loaded in the main process.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_train(self, runner: Any) -> None:
        self._reseed(runner.iter)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self._reseed(runner.iter + 1)

    def _reseed(self, iteration: int) -> None:
        words = np.random.SeedSequence([self.seed, iteration]).generate_state(2)
        random.seed(int(words[0]))
        np.random.seed(int(words[0]))
        torch.manual_seed(int(words[1]))
