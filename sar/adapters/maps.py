"""What the adapters have in common: packages that may not be there, and which maps are taken."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import TypeVar

from torch import Tensor

_Any = TypeVar("_Any")

__all__ = ["channels_first", "chosen", "package"]


def package(name: str, extra: str) -> ModuleType:
    """An optional package.

    Raises:
        ImportError: when it is not installed, or something that it needs is not.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{name} cannot be imported ({error}); expected: pip install semantic-anchors[{extra}]"
        ) from error


def chosen(maps: Sequence[_Any], indices: Sequence[int] | None, what: str) -> tuple[_Any, ...]:
    """Those of some maps, or of what is known of each, at ``indices``; or all.

    Raises:
        ValueError: when there is no such map.
    """
    if indices is None:
        return tuple(maps)
    for index in indices:
        if not -len(maps) <= index < len(maps):
            raise ValueError(f"{what}: out_indices has {index}, and there are {len(maps)} maps")
    return tuple(maps[index] for index in indices)


def channels_first(features: Tensor, channels: int) -> Tensor:
    """A map (N, C, h, w) of one whose channels may come last, as in some transformers."""
    if features.shape[1] != channels and features.shape[-1] == channels:
        return features.permute(0, 3, 1, 2).contiguous()
    return features
