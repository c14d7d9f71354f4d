"""mmengine hooks of the training stage."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, all_reduce, get_rank, master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS

from pipelines.base.artifacts import write_whole
from pipelines.base.errors import PipelineError
from pipelines.base.reading import reading
from pipelines.running.curves import from_the_start, whole_records


@HOOKS.register_module()
class ReseedHook(Hook):
    """Derive all randomness from (seed, iteration).

    Augmentation and dropout of iteration i then do not depend on what was drawn before it: two
    methods with the same seed see the same batches, and a resumed training sees what an
    uninterrupted one would have seen. What other processes load, `loading` seeds alike.

    Of several processes each draws numbers of its own, the first those of a single process: images
    of one batch must not all be flipped alike. So the same study with another number of processes
    has the same batches in the same order, and other augmentations and dropout.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_train(self, runner: Any) -> None:
        reseed(self.seed, runner.iter, get_rank())

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        reseed(self.seed, runner.iter + 1, get_rank())


def reseed(seed: int, iteration: int, rank: int) -> None:
    """Set all of this process's random generators to where they are before an iteration."""
    # Appending 0 would not change what a sequence gives, which the first process relies on.
    words = np.random.SeedSequence([seed, iteration, rank]).generate_state(2)
    random.seed(int(words[0]))
    np.random.seed(int(words[0]))
    torch.manual_seed(int(words[1]))


@HOOKS.register_module()
class MeanOfRanksHook(Hook):
    """Log the losses of the whole batch, where each of several processes has those of its part."""

    priority = "HIGHEST"  # Before the hooks that log.

    def before_train(self, runner: Any) -> None:
        iterations = all_gather_object(runner.iter)
        if len(set(iterations)) > 1:
            raise PipelineError(
                f"{runner.work_dir}: the processes resume from iterations {iterations}; expected "
                "one folder that all of them see alike"
            )

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        values = torch.stack([value.detach().float() for value in outputs.values()])
        all_reduce(values, op="mean")
        outputs.update(zip(outputs, values, strict=True))


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Keep weights, and so features, in the memory order NHWC.

    Before training, and not when the model is built: random numbers fill a tensor in its memory
    order, and the initial weights must not depend on that.
    """

    def before_train(self, runner: Any) -> None:
        runner.model.to(memory_format=torch.channels_last)


@HOOKS.register_module()
class CompileHook(Hook):
    """Compile the backbone with torch.compile, in place: the weights keep their names.

    The heads are left as they are. They are a small part of the work, and their losses, which call
    their parts and not the modules, would be broken up by compilation.
    """

    def before_train(self, runner: Any) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model.backbone.compile()


@HOOKS.register_module()
class DiagnosticsHook(Hook):
    """Record what the parts of a model say of themselves, every `interval` iterations.

    Asks each module that has a method `diagnostics() -> dict[str, 1-D tensor]`, as
    `sar.SemanticAnchorRegularizer` has, and keeps the answers in `file` in the work folder, a JSON
    object a line; `read_diagnostics` reads them.
    """

    file = "diagnostics.jsonl"

    def __init__(self, interval: int) -> None:
        self.interval = interval

    @master_only
    def before_train(self, runner: Any) -> None:
        # What an interrupted training recorded after its last checkpoint comes again; its last line
        # may be torn.
        path = Path(runner.work_dir) / self.file
        work = path.parent
        with reading(path, "log", from_the_start(work)):
            records = whole_records(path, work)
            kept = [record for record in records if record["iteration"] <= runner.iter]
        write_whole(path, "".join(json.dumps(record) + "\n" for record in kept))

    @master_only
    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if not self.every_n_train_iters(runner, self.interval):
            return
        values = {
            f"{name}.{key}".removeprefix("module."): tensor.tolist()
            for name, module in runner.model.named_modules()
            if hasattr(module, "diagnostics")
            for key, tensor in module.diagnostics().items()
        }
        record = {"iteration": runner.iter + 1, "values": values}
        with (Path(runner.work_dir) / self.file).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def read_diagnostics(work: Path) -> dict[str, torch.Tensor]:
    """What `DiagnosticsHook` kept in `work`.

    Returns:
        `iteration` (T,) int64, and for each diagnostic of length K a float32 tensor (T, K).
    """
    path = work / DiagnosticsHook.file
    with reading(path, "log", from_the_start(work)):
        records = list(whole_records(path, work))
        names = sorted({name for record in records for name in record["values"]})
        iterations = [record["iteration"] for record in records]
        tensors = {"iteration": torch.tensor(iterations, dtype=torch.int64)}
        return tensors | {
            name: torch.tensor([record["values"][name] for record in records]) for name in names
        }
