"""Logit adjustment: the simplest rival that could explain a gain on rare classes.

Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, arXiv 2007.07314, eq. 10 (the
logit-adjusted loss).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sar.checks import check_number, check_shares
from sar.door import Config, attach
from sar.rivals.cross_entropy import AdjustedCrossEntropy, of_data

__all__ = ["LogitAdjustment", "apply_logit_adjustment"]


class LogitAdjustment(AdjustedCrossEntropy):
    """CE(z + tau log pi), in training only; pi is a class's share of the labelled pixels.

    To be right on a rare class in spite of the log of its share, the network has to score it higher
    by that much, which it keeps when the share is left out for prediction.

    Args:
        num_classes: K.
        class_share: pi, K numbers above 0; scaled to the sum 1.
        tau: 1 aims at the balanced error; 0 is the plain cross-entropy.
        ignore_index: label of void; None for none.

    Raises:
        ValueError: for an argument out of range, naming it.
    """

    shift: Tensor

    def __init__(
        self,
        num_classes: int,
        *,
        class_share: Sequence[float],
        tau: float = 1.0,
        ignore_index: int | None = 255,
    ) -> None:
        super().__init__(ignore_index)
        self.check_options(class_share=class_share, tau=tau)
        check_shares("class_share", class_share, num_classes)
        share = torch.tensor(class_share, dtype=torch.float64)
        shift = tau * torch.log(share / share.sum())
        self.register_buffer("shift", shift.float(), persistent=False)

    @staticmethod
    def check_options(*, class_share: Sequence[float], tau: float = 1.0) -> None:
        check_number("tau", tau)
        check_shares("class_share", class_share)
        if 0 in class_share:
            raise ValueError(f"class_share={class_share!r}: expected no class without a pixel")

    def _adjust(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, None]:
        return logits + self.shift.reshape(1, -1, *[1] * (logits.ndim - 2)), None


def apply_logit_adjustment(
    model_cfg: Config, *, tau: float = 1.0, seed: int | None = None, data: Mapping[str, Any]
) -> Config:
    """Train a model's last decode head with logit adjustment; see `sar.door.attach`.

    Args:
        data: with ``pixel_share``, and ``num_pixels`` where a class has none: its share is then
            that of one pixel.
    """
    share = list(of_data(data, "pixel_share"))
    if 0 in share:
        share = [max(value, 1 / of_data(data, "num_pixels")) for value in share]
    return attach(model_cfg, LogitAdjustment, class_share=share, tau=tau, seed=seed)
