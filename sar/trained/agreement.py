"""Whether two implementations of a model give the same scores and the same classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sar.errors import SarError

__all__ = ["TOLERANCE", "Agreement", "compare"]

TOLERANCE = 1e-4
"""Largest difference of two scores, as a share of the largest score (of 1, where that is less)."""


@dataclass(frozen=True)
class Agreement:
    """How far apart the scores of two implementations are."""

    difference: float
    """The largest, absolute."""
    largest: float
    """The largest score, absolute."""
    pixels: int
    """Compared."""
    ties: int
    """Pixels of another class, whose two best scores are no further apart than two such
    differences: rounding decides there."""


def compare(found: Tensor, expected: Tensor, where: str) -> Agreement:
    """Compare scores (N, K, H, W).

    Raises:
        SarError: when shapes differ, a number is not finite, scores differ by more than
            `TOLERANCE`, or a pixel gets another class that is no tie.
    """
    if found.shape != expected.shape:
        raise SarError(
            f"{where}: scores of shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
        )
    difference = float((found - expected).abs().max())
    largest = float(expected.abs().max())
    allowed = TOLERANCE * max(1.0, largest)
    if not difference <= allowed:  # NaN included.
        raise SarError(
            f"{where}: scores differ from the model's by up to {difference:.3g}, "
            f"expected at most {allowed:.3g}"
        )
    ties = 0
    if expected.shape[1] > 1:
        other = found.argmax(1) != expected.argmax(1)
        best = torch.topk(expected, 2, dim=1).values
        tied = best[:, 0] - best[:, 1] <= 2 * allowed
        if bool((other & ~tied).any()):
            raise SarError(
                f"{where}: {int((other & ~tied).sum())} of {other.numel()} pixels get another class"
            )
        ties = int(other.sum())
    return Agreement(difference, largest, expected[:, 0].numel(), ties)
