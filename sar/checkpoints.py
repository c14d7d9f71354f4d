"""Weights in and out: read checkpoints of the released code, export the baseline's weights."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

__all__ = [
    "baseline_state_dict",
    "import_model_state",
    "import_regularizer_state",
    "load_released",
]

PREFIX = "regularizer."

_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
# Released name -> name in SemanticAnchorRegularizer's state.
_NAMES = {
    "random_center": "anchors",
    "momentum_center_feat": "semantic_anchors",
    "update_flag": "initialized",
    "projecter_linear.0.weight": "embedding.linear1.weight",
    "projecter_linear.0.bias": "embedding.linear1.bias",
    **{f"projecter_linear.1.{name}": f"embedding.norm1.{name}" for name in _NORM},
    "projecter_linear.3.weight": "embedding.linear2.weight",
    "projecter_linear.3.bias": "embedding.linear2.bias",
    **{f"projecter_linear.4.{name}": f"embedding.norm2.{name}" for name in _NORM},
    "projecter.conv.weight": "embedding.conv.weight",
    **{f"projecter.bn.{name}": f"embedding.norm3.{name}" for name in _NORM},
}
# Constants and counters of the released segmentor that decide nothing.
_IDLE = ("center_lbl", "local_iter")


def load_released(path: str | Path) -> dict:
    """Read a checkpoint without running any code stored in it.

    Returns:
        The checkpoint as saved, on the CPU: a dict with ``state_dict``, or a bare state dict.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is no checkpoint, or holds objects other than tensors and plain
            containers.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(
            f"{path}: not loaded, as it is no checkpoint of tensors and plain containers ({error})"
        ) from error
    if not isinstance(checkpoint, Mapping):
        raise ValueError(f"{path}: expected a dict, found {type(checkpoint).__name__}")
    return dict(checkpoint)


def import_regularizer_state(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate released names into the state of `SemanticAnchorRegularizer`.

    Names under ``decode_head.`` and the released segmentor's idle counters are passed over.

    Args:
        released: tensors or arrays by released name.

    Returns:
        A state dict, to be loaded with ``strict=True``.

    Raises:
        ValueError: listing the names that are missing and those not known.
    """
    ours = {
        name: value
        for name, value in released.items()
        if name not in _IDLE and not name.startswith("decode_head.")
    }
    missing = [name for name in _NAMES if name not in ours]
    unknown = [name for name in ours if name not in _NAMES]
    if missing or unknown:
        raise ValueError(
            f"not the state of a released regularizer: missing {missing or 'nothing'}, "
            f"unknown {unknown or 'nothing'}"
        )
    state = {new: torch.as_tensor(ours[old]).clone() for old, new in _NAMES.items()}
    state["initialized"] = state["initialized"].reshape(()).bool()
    return state


def import_model_state(released: Mapping) -> dict[str, Tensor]:
    """Translate a released model's state for a model built from ``apply_sar(config)``.

    The weights of backbones and heads keep their names between mmsegmentation 0.x and 1.x (patch
    merging in Swin
    included: its channel order has been that of ``nn.Unfold`` in both).

    Args:
        released: a state dict, or a checkpoint with ``state_dict``; names may start with
            ``module.``.

    Returns:
        A state dict, to be loaded with ``strict=True``.

    Raises:
        ValueError: if the regularizer's part is incomplete, or has names not known.
    """
    model, regularizer = {}, {}
    for name, value in _state_of(released).items():
        ours = name in _NAMES or name.split(".")[0] in ("projecter", "projecter_linear")
        if ours:
            regularizer[name] = value
        elif name not in _IDLE:
            model[name] = value
    state = import_regularizer_state(regularizer)
    return {**model, **{PREFIX + name: value for name, value in state.items()}}


def baseline_state_dict(model_or_state: nn.Module | Mapping) -> dict[str, Tensor]:
    """The baseline's part of a SAR model: what inference needs, and what the baseline loads with
    ``strict=True``.

    Args:
        model_or_state: a model, a state dict, or a checkpoint with ``state_dict``; names may start
            with ``module.``.
    """
    if isinstance(model_or_state, nn.Module):
        model_or_state = model_or_state.state_dict()
    state = _state_of(model_or_state)
    return {name: value for name, value in state.items() if not name.startswith(PREFIX)}


def _state_of(checkpoint: Mapping) -> dict[str, Tensor]:
    state = checkpoint.get("state_dict", checkpoint)
    if not isinstance(state, Mapping):
        raise ValueError(f"state_dict is a {type(state).__name__}, expected a dict")
    return {name.removeprefix("module."): value for name, value in state.items()}
