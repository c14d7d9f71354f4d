"""In what numbers, and in what order of memory, a training computes.

A model entry says so, or leaves it to the rule here (`auto`), which depends on the model and on the
machine. What was measured on one H200 (torch 2.11), milliseconds a step:

| model | parameters | float32 | TF32, channels_last | bf16, channels_last |
| --- | --- | --- | --- | --- |
| FCN-HRNet-W48, 8 x 512x1024 | 65.9 million | 498 | 162 | 134 |
| FCN-HRNet small, 8 x 320x416 | 1.1 million | 22 | | 37 |

A small model is starved by the launches of its kernels, of which casts add more. On a CPU bfloat16
is emulated by most processors; the order NHWC makes an HRNet-W18 1.7 times faster there.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch

from pipelines.configs.model import baseline_model
from pipelines.study import Run

LARGE = 10_000_000
"""Parameters from which on a model keeps a GPU busy: between the two that were measured."""


_SIZES: dict[str, int] = {}
"""Parameters of the models that were built to count them, by their configs."""


class Numerics(NamedTuple):
    """How a training computes."""

    precision: Literal["float32", "tf32", "bf16", "fp16"]
    channels_last: bool


def numerics(run: Run) -> Numerics:
    """What the model entry of `run` says, with `auto` settled for this machine."""
    entry = run.entry
    precision, channels_last = entry.precision, entry.channels_last
    if precision != "auto" and channels_last != "auto":
        return Numerics(precision, channels_last)
    ruled = _by_rule(run)
    return Numerics(
        ruled.precision if precision == "auto" else precision,
        ruled.channels_last if channels_last == "auto" else channels_last,
    )


def _by_rule(run: Run) -> Numerics:
    if not torch.cuda.is_available():
        return Numerics("float32", True)
    if not torch.cuda.is_bf16_supported(including_emulation=False) or _parameters(run) < LARGE:
        return Numerics("float32", False)
    return Numerics("bf16", True)


def _parameters(run: Run) -> int:
    from mmengine.registry import MODELS, init_default_scope

    config = baseline_model(run)
    key = repr(config)
    if key not in _SIZES:
        init_default_scope("mmseg")
        with torch.random.fork_rng(devices=[]):
            model: Any = MODELS.build(config)
        _SIZES[key] = sum(weight.numel() for weight in model.parameters())
    return _SIZES[key]


def allow_tf32(allowed: bool) -> None:
    """Whether a GPU may round the inputs of float32 products and convolutions to TF32.

    PyTorch's own default is yes for convolutions and no for products.
    """
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
