"""Center loss: pixels are pulled to centres that follow the features of their class.

Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition", ECCV 2016,
eq. 2 and 4, as in KaiyangZhou/pytorch-center-loss (082ffa2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sar.checks import check_number
from sar.door import Config, attach
from sar.rivals.class_means import means_of_all, pull_of_all

__all__ = ["CenterLoss", "apply_center_loss"]


class CenterLoss(nn.Module):
    """weight * mean over labelled pixels of ``|f - c_y|^2 / C``, with centres c ~ N(0, 1) at first.

    The source has no 1 / C; SAR's pull has it, and so has this, that the weights of both mean the
    same. After each loss the centres move by ``center_lr`` times the gradient of the unweighted
    loss without 1 / C, 2 n_k / n (c_k - mean of the class's f), with n_k of the n pixels. They move
    here and not by the model's optimizer, whose schedule and decay are not theirs. The pixels are
    those of all processes; in eval mode the centres stay.

    Args:
        num_classes: K.
        channels: C.
        weight: of the loss.
        center_lr: how far the centres move, in (0, 1].
        ignore_index: label of void; None for none.

    Attributes:
        centers: buffer (K, C), c.
        follows: whether the centres move in train mode. Gradient accumulation sets it to False for
            all parts of a batch but the first. Not in the state.

    Raises:
        ValueError: for an argument out of range, naming it.
    """

    centers: Tensor

    def __init__(
        self,
        num_classes: int,
        channels: int,
        *,
        weight: float = 0.1,
        center_lr: float = 0.5,
        ignore_index: int | None = 255,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.check_options(weight=weight, center_lr=center_lr)
        self.weight, self.center_lr, self.ignore_index = weight, center_lr, ignore_index
        self.register_buffer("centers", torch.randn(num_classes, channels, generator=generator))
        self.follows = True

    @staticmethod
    def check_options(*, weight: float = 0.1, center_lr: float = 0.5) -> None:
        check_number("weight", weight)
        check_number("center_lr", center_lr, "(0, 1]")

    def forward(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The loss of one batch, ``{"loss_center": scalar}``.

        Args:
            features: f, (N, C, h, w).
            labels: (N, H, W), integers in 0..K-1 or ``ignore_index``.
        """
        centers = self.centers.clone()  # Backward reads them after they have moved.
        pull = pull_of_all(features, labels, centers, self.ignore_index)
        if self.training and self.follows:
            means, counts = means_of_all(features, labels, len(centers), self.ignore_index)
            share = (counts / counts.sum().clamp(min=1))[:, None]
            self.centers -= self.center_lr * 2 * share * (self.centers - means)
        return {"loss_center": self.weight * pull}


def apply_center_loss(
    model_cfg: Config, *, weight: float = 0.1, center_lr: float = 0.5, seed: int | None = None
) -> Config:
    """Train a model with center loss on what its last decode head classifies; see
    `sar.door.attach`.
    """
    return attach(model_cfg, CenterLoss, weight=weight, center_lr=center_lr, seed=seed)
