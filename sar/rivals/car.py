"""CAR, class-aware regularizations: pixels near their class's mean, means and pixels apart from
other classes'.

Huang et al., "CAR: Class-aware Regularizations for Semantic Segmentation", ECCV 2022,
arXiv 2203.07160, as in edwardyehuang/CAR (97c90d4).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sar.checks import check_number
from sar.door import Config, attach
from sar.rivals.class_means import (
    class_sums,
    clear_void,
    divide,
    one_hot,
    pixel_labels,
    zero_loss,
)

__all__ = ["CAR", "apply_car", "class_aware_losses"]

_EPSILON = 1e-7  # The source's, of Keras.


def class_aware_losses(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    c2c_threshold: float = 0.5,
    c2p_threshold: float = 0.25,
) -> dict[str, Tensor]:
    """The three terms without weights. mu are the means of the batch, 0 for an absent class; sg
    stops the gradient; R_ij and R_pj are softmax over j::

        c2c   = (mean_i sum_j!=i max(R_ij - t / (K - 1), 0))^2,  R_i = softmax(mu_i.sg(mu) / sqrt C)
        c2p   = the same of pixels, R_p = softmax(f_p.sg(mu) / sqrt C), |sg(mu)_y|^2 for f_p.mu_y
        intra = (mean over pixels and channels of |f - sg(mu)_y|)^2

    with the sums clamped to [1e-7, 1 - 1e-7], and intra to at least 1e-5. As in the source, void
    counts in the means: as 0 in intra, and in c2p as a pixel to which all classes are others.

    Args:
        features: f, (N, C, h, w).
        labels: (N, h w), -1 for void.
        num_classes: K.
        c2c_threshold: t of the class means.
        c2p_threshold: t of the pixels.

    Returns:
        Scalars ``c2c``, ``c2p`` and ``intra``.
    """
    belongs = one_hot(labels, num_classes, features.dtype)  # (N, P, K)
    means = divide(*class_sums(features, labels, num_classes))
    fixed = means.detach()
    scale = math.sqrt(features.shape[1])

    relation = (means @ fixed.T / scale).softmax(dim=1)
    others = 1 - torch.eye(num_classes, device=features.device)
    c2c = _excess(relation * others, c2c_threshold / (num_classes - 1))

    pixels = features.flatten(2).transpose(1, 2)
    energy = pixels @ fixed.T
    energy = torch.where(belongs > 0, fixed.square().sum(dim=1), energy)
    relation = (energy / scale).softmax(dim=2)
    c2p = _excess(relation * (1 - belongs), c2p_threshold / (num_classes - 1))

    distance = (belongs @ fixed - pixels).abs() * belongs.sum(dim=2, keepdim=True)
    return {"c2c": c2c, "c2p": c2p, "intra": distance.mean().square().clamp(min=1e-5)}


def _excess(relation: Tensor, threshold: float) -> Tensor:
    """What relations have above a threshold: summed, clamped, averaged, squared."""
    excess = (relation - threshold).clamp(min=0).sum(dim=-1)
    return excess.clamp(_EPSILON, 1 - _EPSILON).mean().square()


class CAR(nn.Module):
    """The three terms on f after a linear 1x1 convolution, which no prediction needs.

    In the source the classifier reads what the convolution gives, and it can be merged into what
    follows; here it is a branch, so that prediction stays the baseline's. Each process has the
    means of its own images.

    Args:
        num_classes: K.
        channels: C.
        intra_weight: weight of intra.
        inter_weight: weight of c2c and c2p.
        c2c_threshold: of the class means; in [0, 1].
        c2p_threshold: of the pixels; in [0, 1].
        ignore_index: label of void; None for none.

    Raises:
        ValueError: for an argument out of range, naming it.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        *,
        intra_weight: float = 1.0,
        inter_weight: float = 1.0,
        c2c_threshold: float = 0.5,
        c2p_threshold: float = 0.25,
        ignore_index: int | None = 255,
    ) -> None:
        super().__init__()
        options = {"c2c_threshold": c2c_threshold, "c2p_threshold": c2p_threshold}
        self.check_options(intra_weight=intra_weight, inter_weight=inter_weight, **options)
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.intra_weight, self.inter_weight, self.thresholds = intra_weight, inter_weight, options
        self.linear = nn.Conv2d(channels, channels, 1)

    @staticmethod
    def check_options(
        *,
        intra_weight: float = 1.0,
        inter_weight: float = 1.0,
        c2c_threshold: float = 0.5,
        c2p_threshold: float = 0.25,
    ) -> None:
        check_number("intra_weight", intra_weight)
        check_number("inter_weight", inter_weight)
        check_number("c2c_threshold", c2c_threshold, "[0, 1]")
        check_number("c2p_threshold", c2p_threshold, "[0, 1]")

    def forward(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The losses of one batch, ``loss_c2c``, ``loss_c2p`` and ``loss_intra``; 0 of none.

        Args:
            features: f, (N, C, h, w).
            labels: (N, H, W), integers in 0..K-1 or ``ignore_index``.
        """
        known = pixel_labels(labels, features.shape[-2:], self.ignore_index)
        features = features.to(self.linear.weight.dtype)
        if not features.numel():
            zero = zero_loss(self, features)
            return {"loss_c2c": zero, "loss_c2p": zero, "loss_intra": zero}
        linear = self.linear(clear_void(features, known))
        terms = class_aware_losses(linear, known, self.num_classes, **self.thresholds)
        return {
            "loss_c2c": self.inter_weight * terms["c2c"],
            "loss_c2p": self.inter_weight * terms["c2p"],
            "loss_intra": self.intra_weight * terms["intra"],
        }


def apply_car(
    model_cfg: Config,
    *,
    intra_weight: float = 1.0,
    inter_weight: float = 1.0,
    c2c_threshold: float = 0.5,
    c2p_threshold: float = 0.25,
    seed: int | None = None,
) -> Config:
    """Train a model with CAR on what its last decode head classifies; see `sar.door.attach`."""
    return attach(
        model_cfg,
        CAR,
        intra_weight=intra_weight,
        inter_weight=inter_weight,
        c2c_threshold=c2c_threshold,
        c2p_threshold=c2p_threshold,
        seed=seed,
    )
