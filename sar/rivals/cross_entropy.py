"""What the methods have in common that change the logits, or the pixels' weights, of the
cross-entropy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["AdjustedCrossEntropy", "of_data"]


class AdjustedCrossEntropy(nn.Module, ABC):
    """A softmax cross-entropy of adjusted logits, with a weight a pixel.

    Attached to a model, it adjusts what the head's own cross-entropy sees, which keeps its other
    settings: void counts in the mean if the baseline has it so. Alone it is the mean over labelled
    pixels.

    Args:
        ignore_index: label of void; None for none.
    """

    def __init__(self, ignore_index: int | None = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def adjust(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """The logits for the cross-entropy, and a weight a pixel or None.

        Those of void pixels are 0 before they are adjusted: the gradient of a softmax that is NaN
        is NaN, also where its loss is left out.

        Args:
            logits: z, (N, K, ...).
            labels: (N, ...), integers in 0..K-1 or ``ignore_index``.

        Returns:
            (N, K, ...) and (N, ...).
        """
        void = ~self.known(labels)[0].unsqueeze(1)
        return self._adjust(torch.where(void, 0, logits), labels)

    @abstractmethod
    def _adjust(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """`adjust`, of logits that are 0 at void pixels."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss, a scalar; 0 where no pixel is labelled."""
        logits, weight = self.adjust(logits, labels)
        known, labels = self.known(labels)
        losses = F.cross_entropy(logits, labels, reduction="none")
        if weight is not None:
            losses = losses * weight
        return torch.where(known, losses, 0).sum() / known.sum().clamp(min=1)

    def known(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Which pixels are labelled, and the labels with class 0 where they are not."""
        labels = labels.long()
        if self.ignore_index is None:
            return torch.ones_like(labels, dtype=torch.bool), labels
        known = labels != self.ignore_index
        return known, torch.where(known, labels, 0)


def of_data(data: Mapping[str, Any] | None, name: str) -> Any:
    """What the prepared data says under a name.

    Raises:
        ValueError: if it says nothing.
    """
    if data is None or data.get(name) is None:
        raise ValueError(f"data has no {name!r}: expected what the prepared training set holds")
    return data[name]
