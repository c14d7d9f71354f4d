"""Class-balanced cross-entropy: classes weighted by the effective number of their images.

Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019,
arXiv 1901.05555, eq. 5 and 10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sar.checks import check_number, check_shares
from sar.door import Config, attach
from sar.rivals.cross_entropy import AdjustedCrossEntropy, of_data

__all__ = ["ClassBalancedCrossEntropy", "apply_class_balanced"]


class ClassBalancedCrossEntropy(AdjustedCrossEntropy):
    """Mean over pixels of w_y CE, with w_k = (1 - b) / (1 - b^n_k), scaled to the sum K.

    n_k is the number of training *images* that hold class k, at least 1: in pixels 1 - b^n is 1 for
    every class, and all weights are equal. The mean is not divided by the sum of the weights.

    Args:
        num_classes: K.
        image_count: n, K numbers.
        beta: b, in [0, 1); 0 weighs all classes alike, towards 1 by 1 / n_k.
        ignore_index: label of void; None for none.

    Raises:
        ValueError: for an argument out of range, naming it.
    """

    weight: Tensor

    def __init__(
        self,
        num_classes: int,
        *,
        image_count: Sequence[float],
        beta: float = 0.9999,
        ignore_index: int | None = 255,
    ) -> None:
        super().__init__(ignore_index)
        self.check_options(image_count=image_count, beta=beta)
        check_shares("image_count", image_count, num_classes)
        count = torch.tensor(image_count, dtype=torch.float64).clamp(min=1)
        weight = (1 - beta) / (1 - beta**count)
        weight *= num_classes / weight.sum()
        self.register_buffer("weight", weight.float(), persistent=False)

    @staticmethod
    def check_options(*, image_count: Sequence[float], beta: float = 0.9999) -> None:
        check_number("beta", beta, "[0, 1)")
        check_shares("image_count", image_count)

    def _adjust(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return logits, self.weight[self.known(labels)[1]]


def apply_class_balanced(
    model_cfg: Config, *, beta: float = 0.9999, seed: int | None = None, data: Mapping[str, Any]
) -> Config:
    """Train a model's last decode head with class-balanced cross-entropy; see `sar.door.attach`.

    Args:
        data: with ``image_count``.
    """
    counts = list(of_data(data, "image_count"))
    return attach(model_cfg, ClassBalancedCrossEntropy, image_count=counts, beta=beta, seed=seed)
