"""Weights in and out: read checkpoints of the released code, export the baseline's weights."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sar.errors import SarError

__all__ = [
    "baseline_state_dict",
    "check_finite",
    "import_model_state",
    "import_regularizer_state",
    "load_released",
    "released_names",
    "sort_released",
    "state_of",
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


def load_released(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of mmsegmentation 0.x or 1.x without running any code stored in it.

    Numbers and arrays of numpy are read too, since both lines keep some beside the weights. The log
    that 1.x keeps there is an object of mmengine: nothing stands in its place.

    Returns:
        The checkpoint as saved, on the CPU: a dict with ``state_dict``, or a bare state dict.

    Raises:
        FileNotFoundError: if there is no such file.
        SarError: if the file is no checkpoint, or holds objects other than these.
    """
    try:
        with _harmless_types():
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # Any, from bytes that are no pickle.
        raise SarError(
            f"{path}: not loaded, as it is no checkpoint of tensors, plain containers and numpy's "
            f"numbers: {_refused_globals(path) or _in_short(error)}"
        ) from error
    if not isinstance(checkpoint, Mapping):
        raise SarError(f"{path}: expected a dict, found {type(checkpoint).__name__}")
    return dict(checkpoint)


class _Nothing:
    """Stands where a checkpoint has an object that decides nothing, and takes nothing from it."""

    def __setstate__(self, state: Any) -> None:
        pass


def _no_attribute(*args: Any) -> None:
    """Stands for ``getattr``, with which the log of mmengine names its own methods."""


@contextmanager
def _harmless_types() -> Iterator[None]:
    """Let ``weights_only`` build numpy's scalars and arrays, under their old and new names."""
    import numpy as np
    from numpy._core import multiarray

    numbers = [getattr(np.dtypes, name) for name in np.dtypes.__all__]
    allowed: list[Any] = [np.dtype, np.ndarray, *numbers]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        allowed.append((multiarray.scalar, f"{module}.scalar"))
        allowed.append((multiarray._reconstruct, f"{module}._reconstruct"))
    allowed.append((_Nothing, "mmengine.logging.history_buffer.HistoryBuffer"))
    allowed.append((_no_attribute, "builtins.getattr"))
    with torch.serialization.safe_globals(allowed):
        yield


def _in_short(error: Exception) -> str:
    """What torch says is unsupported, without its advice to load the file all the same."""
    text = str(error)
    start = max(text.find("Unsupported"), 0)
    return text[start:].split("\n")[0].split(". ")[0] or type(error).__name__


def _refused_globals(path: str | Path) -> str:
    """The names of what the file would have called; empty where they cannot be listed."""
    try:
        with _harmless_types():
            names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except (ValueError, RuntimeError, OSError, pickle.UnpicklingError):
        return ""  # The file is of the format before torch 1.6, or no checkpoint at all.
    return f"it refers to {', '.join(names)}" if names else ""


def check_finite(state: Mapping[str, Tensor], path: str | Path) -> None:
    """Refuse weights of which a number is NaN or infinite: what they predict is noise.

    Raises:
        SarError: naming the tensors, and the file that they are from.
    """
    wrong = []
    for name, tensor in state.items():
        # Of the types of 8 bits torch cannot say it.
        wide = tensor.float() if tensor.is_floating_point() else tensor
        count = int((~torch.isfinite(wide)).sum())
        if count:
            wrong.append(f"{name} ({count} of {tensor.numel()} numbers)")
    if wrong:
        more = f", and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise SarError(
            f"{path}: NaN or infinite: {', '.join(wrong[:5])}{more}; expected finite weights, "
            "such as those of a checkpoint from before the training broke down"
        )


def import_regularizer_state(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate released names into the state of `SemanticAnchorRegularizer`.

    Names under ``decode_head.`` and the released segmentor's idle counters are passed over.

    Args:
        released: tensors or arrays by released name.

    Returns:
        A state dict, to be loaded with ``strict=True``.

    Raises:
        SarError: listing the names that are missing and those not known.
    """
    ours = {
        name: value
        for name, value in released.items()
        if name not in _IDLE and not name.startswith("decode_head.")
    }
    missing, unknown = released_names(ours) if ours else (list(_NAMES), [])
    if missing or unknown:
        raise SarError(
            f"not the state of a released regularizer: missing {missing or 'nothing'}, "
            f"unknown {unknown or 'nothing'}"
        )
    state = {new: torch.as_tensor(ours[old]).clone() for old, new in _NAMES.items()}
    state["initialized"] = state["initialized"].reshape(()).bool()
    return state


def released_names(regularizer: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Which names a released regularizer's state lacks, and which are none of its own.

    A baseline's state, which has none of them at all, lacks nothing.
    """
    missing = [name for name in _NAMES if name not in regularizer] if regularizer else []
    return missing, [name for name in regularizer if name not in _NAMES]


def import_model_state(released: Mapping[str, Any]) -> dict[str, Tensor]:
    """Translate a released model's state for a model built from ``apply_sar(config)``.

    The weights of backbones and heads keep their names between mmsegmentation 0.x and 1.x (patch
    merging in Swin included: its channel order has been that of ``nn.Unfold`` in both).

    Args:
        released: a state dict, or a checkpoint with ``state_dict``; names may start with
            ``module.``.

    Returns:
        A state dict, to be loaded with ``strict=True``.

    Raises:
        SarError: if the regularizer's part is incomplete, or has names not known.
    """
    model, regularizer, _ = sort_released(state_of(released))
    state = import_regularizer_state(regularizer)
    return {**model, **{PREFIX + name: value for name, value in state.items()}}


def sort_released(
    state: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]]:
    """The parts of a released state: the bare model's, the regularizer's, and idle names.

    Idle are constants and counters that decide nothing. A baseline's state is all the model's.
    """
    model, regularizer, idle = {}, {}, []
    for name, value in state.items():
        if name in _IDLE:
            idle.append(name)
        elif name in _NAMES or name.split(".")[0] in ("projecter", "projecter_linear"):
            regularizer[name] = value
        else:
            model[name] = value
    return model, regularizer, idle


def baseline_state_dict(model_or_state: nn.Module | Mapping[str, Any]) -> dict[str, Tensor]:
    """The baseline's part of a SAR model: what inference needs, and what the baseline loads with
    ``strict=True``.

    Args:
        model_or_state: a model, a state dict, or a checkpoint with ``state_dict``; names may start
            with ``module.``.
    """
    if isinstance(model_or_state, nn.Module):
        model_or_state = model_or_state.state_dict()
    state = state_of(model_or_state)
    return {name: value for name, value in state.items() if not name.startswith(PREFIX)}


def state_of(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict in a checkpoint, or the one that it is, without ``module.`` before its names.

    Raises:
        SarError: if there is none, or it holds something else than tensors.
    """
    state = checkpoint.get("state_dict", checkpoint)
    if not isinstance(state, Mapping):
        raise SarError(f"state_dict is a {type(state).__name__}, expected a dict")
    wrong = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if wrong or not state:
        found = f"{wrong[0]!r} is a {type(state[wrong[0]]).__name__}" if wrong else "it is empty"
        raise SarError(f"no state dict of tensors: {found}")
    return {name.removeprefix("module."): value for name, value in state.items()}
