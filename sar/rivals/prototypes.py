"""Feature prototypes: what the paper of semantic anchors argues against.

Pixels are pulled to a running mean of the features of their class, as prototype-based methods
derive their class representatives. Ge et al., "Beyond Prototypes", AAAI 2024, arXiv 2312.11872,
introduction; everything but the origin of the targets is as in SAR.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sar.checks import check_number
from sar.door import Config, attach
from sar.regularizer import scaled_momentum
from sar.rivals.class_means import means_of_all, pull_of_all

__all__ = ["FeaturePrototypes", "apply_prototypes"]


class FeaturePrototypes(nn.Module):
    """weight * mean over channels and labelled pixels of (f - p_y)^2.

    p_k is the mean feature of class k in the first batch that holds it, and then p = ``momentum`` p
    + (1 - ``momentum``) mean of the batch; detached, moved before it is used, by the pixels of all
    processes. In eval mode it stays, and a class that was never seen pulls nothing.

    Args:
        num_classes: K.
        channels: C.
        pull_weight: weight of the loss.
        momentum: of the prototypes; in [0, 1].
        ignore_index: label of void; None for none.

    Attributes:
        prototypes: buffer (K, C), p.
        initialized: buffer (K,) bool: which have a value.
        follows: whether they move in train mode. Gradient accumulation sets it to False for all
            parts of a batch but the first. Not in the state.

    Raises:
        ValueError: for an argument out of range, naming it.
    """

    prototypes: Tensor
    initialized: Tensor

    def __init__(
        self,
        num_classes: int,
        channels: int,
        *,
        pull_weight: float = 0.1,
        momentum: float = 0.999,
        ignore_index: int | None = 255,
    ) -> None:
        super().__init__()
        self.check_options(pull_weight=pull_weight, momentum=momentum)
        self.pull_weight, self.momentum, self.ignore_index = pull_weight, momentum, ignore_index
        self.register_buffer("prototypes", torch.zeros(num_classes, channels))
        self.register_buffer("initialized", torch.zeros(num_classes, dtype=torch.bool))
        self.follows = True

    @staticmethod
    def check_options(*, pull_weight: float = 0.1, momentum: float = 0.999) -> None:
        check_number("pull_weight", pull_weight)
        check_number("momentum", momentum, "[0, 1]")

    def forward(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The loss of one batch, ``{"loss_pull": scalar}``.

        Args:
            features: f, (N, C, h, w).
            labels: (N, H, W), integers in 0..K-1 or ``ignore_index``.
        """
        if self.training and self.follows:
            means, counts = means_of_all(features, labels, len(self.prototypes), self.ignore_index)
            self._move(means, counts > 0)
        weights = self.initialized.to(self.prototypes.dtype)
        prototypes = self.prototypes.clone()  # Backward reads what a later forward moves.
        pull = pull_of_all(features, labels, prototypes, self.ignore_index, weights)
        return {"loss_pull": self.pull_weight * pull}

    def _move(self, means: Tensor, present: Tensor) -> None:
        moved = self.momentum * self.prototypes + (1 - self.momentum) * means
        moved = torch.where(self.initialized[:, None], moved, means)
        self.prototypes.copy_(torch.where(present[:, None], moved, self.prototypes))
        self.initialized |= present


def apply_prototypes(
    model_cfg: Config,
    *,
    pull_weight: float = 0.1,
    momentum: float | str = 0.999,
    seed: int | None = None,
    iterations: int | None = None,
) -> Config:
    """Train a model with feature prototypes of what its last decode head classifies; see
    `sar.door.attach`.

    Args:
        iterations: of the training; ``momentum="auto"`` needs them, as in `sar.mmseg.apply_sar`.
    """
    if momentum == "auto":
        momentum = scaled_momentum(iterations)
    options = {"pull_weight": pull_weight, "momentum": momentum, "seed": seed}
    return attach(model_cfg, FeaturePrototypes, **options)
