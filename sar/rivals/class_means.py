"""Sums and means of a batch's features by class, what several methods are made of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sar.pull import count_valid, pixel_to_anchor_pull, resize_labels

__all__ = [
    "class_sums",
    "clear_void",
    "divide",
    "means_of_all",
    "one_hot",
    "pixel_labels",
    "pull_of_all",
    "sum_over_processes",
    "zero_loss",
]


def pixel_labels(labels: Tensor, size: Sequence[int], ignore_index: int | None) -> Tensor:
    """Labels (N, H, W) at the features' size by nearest neighbour, -1 for void: (N, h w) int64."""
    labels = resize_labels(labels, size).long().flatten(1)
    return labels if ignore_index is None else torch.where(labels == ignore_index, -1, labels)


def clear_void(values: Tensor, labels: Tensor) -> Tensor:
    """Values (N, C, h, w) with 0 for those of void pixels that are NaN or infinite.

    For methods in which void pixels count, as their sources have it: there such a pixel counts as
    one of zeros. In a product with 0 it would be NaN.

    Args:
        labels: (N, h w), of `pixel_labels`.
    """
    void = (labels < 0).reshape(len(values), 1, *values.shape[2:])
    # Not masked_fill, which has a memory format of its own.
    return torch.where(void & ~values.isfinite(), 0, values)


def one_hot(labels: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
    """(N, h w) with -1 for void as (N, h w, K) of 0 and 1; void has no 1."""
    classes = torch.arange(num_classes, device=labels.device)
    return (labels.unsqueeze(-1) == classes).to(dtype)


def class_sums(features: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Sums of the features of each class, (K, C), and the number of its pixels, (K,).

    Args:
        features: (N, C, h, w), of `clear_void`; the sums have their gradient.
        labels: (N, h w), of `pixel_labels`.
    """
    belongs = one_hot(labels, num_classes, features.dtype)
    sums = torch.bmm(features.flatten(2), belongs).sum(dim=0).T
    return sums, belongs.sum(dim=(0, 1))


def divide(sums: Tensor, counts: Tensor) -> Tensor:
    """Means (K, C); 0 for an absent class."""
    return sums / counts.clamp(min=1).unsqueeze(1)


def means_of_all(
    features: Tensor, labels: Tensor, num_classes: int, ignore_index: int | None
) -> tuple[Tensor, Tensor]:
    """Mean features (K, C) and pixels (K,) of each class, without gradient, of all processes.

    Args:
        features: (N, C, h, w).
        labels: (N, H, W).
    """
    known = pixel_labels(labels, features.shape[-2:], ignore_index)
    features = clear_void(features.detach().float(), known)
    sums, counts = class_sums(features, known, num_classes)
    both = sum_over_processes(torch.cat([sums, counts[:, None]], dim=1))
    return divide(both[:, :-1], both[:, -1]), both[:, -1]


def pull_of_all(
    features: Tensor,
    labels: Tensor,
    targets: Tensor,
    ignore_index: int | None,
    weights: Tensor | None = None,
) -> Tensor:
    """This process's share of the mean of (f - targets[label])^2 over the pixels of all processes,
    times their number: the mean over processes is the loss of the whole batch.
    """
    labels = resize_labels(labels, features.shape[-2:]).long()
    own = count_valid(labels, ignore_index)
    world = sum_over_processes(torch.ones_like(own))
    pixels = sum_over_processes(own).clamp(min=1) / world
    pull = pixel_to_anchor_pull(
        features, labels, targets, ignore_index, torch.ones_like(own), weights
    )
    return pull / pixels.to(pull.dtype)


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum over all processes of `torch.distributed`; of a single one, its own values."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total


def zero_loss(module: nn.Module, features: Tensor) -> Tensor:
    """A loss of 0 that has a gradient, of 0, for each parameter of a module.

    Where a batch has nothing to learn from: DDP waits for the gradient of every parameter. Nothing
    is multiplied by 0, since the features may be NaN.
    """
    total = _empty_sum(features)
    for parameter in module.parameters():
        total = total + _empty_sum(parameter)
    return total


def _empty_sum(values: Tensor) -> Tensor:
    return values[:0].sum()
