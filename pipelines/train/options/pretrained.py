"""Start a model's backbone from the weights that fetch brought, instead of random ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from torch import Tensor, nn

from pipelines.base.errors import PipelineError
from pipelines.base.reading import read_tensors
from sar.checkpoints import check_finite
from sar.errors import SarError


@HOOKS.register_module()
class PretrainedBackboneHook(Hook):
    """Load `file`, a safetensors file, into the backbone of a model whose training begins.

    Not when the model is built: what initialises the rest draws the same random numbers with and
    without it. A resumed training has its weights already.
    """

    def __init__(self, file: str) -> None:
        self.file = file

    def before_train(self, runner: Any) -> None:
        if runner.iter:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        summary = load_backbone(model.backbone, read_tensors(Path(self.file)), self.file)
        runner.logger.info(summary)


def load_backbone(backbone: nn.Module, state: dict[str, Tensor], source: str | Path) -> str:
    """Copy `state` into `backbone`; what it lacks keeps its values.

    Returns:
        How much of it was loaded and what did not match, by group, in a line.

    Raises:
        PipelineError: when a tensor has another shape, or the larger part of the backbone is not
            among them: then these are weights of another architecture. And when a number is NaN or
            infinite.
    """
    try:
        check_finite(state, source)
    except SarError as error:
        raise PipelineError(str(error)) from error
    # Counters of batches, which old checkpoints lack and which decide nothing here.
    own = {name: value for name, value in backbone.state_dict().items() if not _counts(name)}
    matched = [name for name in own if name in state]
    missing = [name for name in own if name not in state]
    unknown = [name for name in state if name not in own and not _counts(name)]
    misshapen = [name for name in matched if own[name].shape != state[name].shape]
    summary = (
        f"backbone: {len(matched)} of {len(own)} tensors from {source}; missing there: "
        f"{_groups(missing)}; of no use here: {_groups(unknown)}"
    )
    if misshapen:
        name = misshapen[0]
        raise PipelineError(
            f"{summary}; of another shape: {_groups(misshapen)}, such as {name} with "
            f"{tuple(state[name].shape)}, expected {tuple(own[name].shape)}: these are weights of "
            "another architecture"
        )
    if 2 * len(matched) <= len(own):
        raise PipelineError(
            f"{summary}: expected more than half of the backbone: these are weights of another "
            "architecture, or pretrained.prefix is wrong"
        )
    backbone.load_state_dict(state, strict=False)
    return summary


def _counts(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _groups(names: Iterable[str]) -> str:
    """How many names there are below each part of the model: `stage2 12, norm0 2`."""
    counts = Counter(name.partition(".")[0] for name in names)
    return ", ".join(f"{group} {count}" for group, count in counts.items()) or "none"
