"""CeCo, center collapse: the mean features of the classes are classified by a fixed simplex frame.

Zhong et al., "Understanding Imbalanced Semantic Segmentation Through Neural Collapse", CVPR 2023,
arXiv 2301.01100, as in dvlab-research/Parametric-Contrastive-Learning (fe56535).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sar.anchors import simplex
from sar.checks import check_integer, check_number, check_shares
from sar.door import Config, attach
from sar.rivals.class_means import class_sums, clear_void, divide, pixel_labels, zero_loss
from sar.rivals.cross_entropy import of_data

__all__ = ["CeCo", "apply_ceco", "center_scores", "centers_cross_entropy"]


def center_scores(centers: Tensor, frame: Tensor, scale: float = 5.0) -> Tensor:
    """scale * cosine of class centres (M, D) with a frame of unit vectors (K, D): (M, K)."""
    return scale * F.normalize(centers, dim=1) @ frame.T


def centers_cross_entropy(
    scores: Tensor, classes: Tensor, class_share: Tensor, smooth: float = 1.0
) -> Tensor:
    """CE(scores + log class share) of the classes present: rare ones are pushed apart harder.

    Args:
        scores: (M, K).
        classes: (M,), whose centre each row is.
        class_share: (K,).
        smooth: what the target has of the class itself; the rest goes to the others alike.
    """
    target = F.one_hot(classes, scores.shape[1]).to(scores.dtype)
    target = smooth * target + (1 - smooth) / (scores.shape[1] - 1) * (1 - target)
    log_p = (scores + (class_share + 1e-12).log()).log_softmax(dim=1)
    return -(target * log_p).sum() / (target.sum() + 1e-12)


class CeCo(nn.Module):
    """weight * CE over the classes present of 5 cos(MLP(mean of BN(conv1x1(f))), frame) + log pi.

    The convolution has 128 channels, the MLP (a linear layer and ReLU) 512 by default. The means
    are those of the process's images. The source brings the reduced features to the size of the
    labels first; here the labels come to that of the features, as in SAR.

    Args:
        num_classes: K.
        channels: C.
        class_share: pi, share of each class in the labelled training pixels.
        weight: of the loss; the source has 0.8 and 0.2.
        scale: of the cosines.
        dim: D, of the MLP's output; at least K - 1.
        ignore_index: label of void; None for none.

    Attributes:
        frame: buffer (K, D), unit vectors with pairwise cosine -1 / (K - 1), in a random position.

    Raises:
        ValueError: for an argument out of range, naming it.
    """

    class_share: Tensor
    frame: Tensor

    def __init__(
        self,
        num_classes: int,
        channels: int,
        *,
        class_share: Sequence[float],
        weight: float = 0.8,
        scale: float = 5.0,
        dim: int = 512,
        ignore_index: int | None = 255,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.check_options(class_share=class_share, weight=weight, scale=scale, dim=dim)
        check_shares("class_share", class_share, num_classes)
        if dim < num_classes - 1:
            raise ValueError(f"dim={dim}: expected an integer >= {num_classes - 1}, classes less 1")
        self.weight, self.scale, self.ignore_index = weight, scale, ignore_index
        share = torch.tensor(class_share, dtype=torch.float32)
        self.register_buffer("class_share", share / share.sum(), persistent=False)
        frame = F.normalize(simplex(num_classes, dim, generator), dim=1)
        self.register_buffer("frame", frame)
        self.reduce = nn.Sequential(nn.Conv2d(channels, 128, 1, bias=False), nn.BatchNorm2d(128))
        self.gain = nn.Sequential(nn.Linear(128, dim), nn.ReLU())

    @staticmethod
    def check_options(
        *, class_share: Sequence[float], weight: float = 0.8, scale: float = 5.0, dim: int = 512
    ) -> None:
        check_shares("class_share", class_share)
        check_number("weight", weight)
        check_number("scale", scale, "(0, inf)")
        check_integer("dim", dim, 1)

    def forward(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The loss of one batch, ``{"loss_centers": scalar}``; 0 where all is void.

        Args:
            features: f, (N, C, h, w).
            labels: (N, H, W), integers in 0..K-1 or ``ignore_index``.
        """
        known = pixel_labels(labels, features.shape[-2:], self.ignore_index)
        features = features.to(self.frame.dtype)
        if features.numel() <= features.shape[1]:  # One pixel has no statistics.
            return {"loss_centers": zero_loss(self, features)}
        reduced = self.reduce(clear_void(features, known))
        sums, counts = class_sums(reduced, known, len(self.frame))
        present = counts.nonzero().flatten()
        if not len(present):
            return {"loss_centers": zero_loss(self, features)}
        centers = self.gain(divide(sums, counts)[present])
        scores = center_scores(centers, self.frame, self.scale)
        loss = centers_cross_entropy(scores, present, self.class_share)
        return {"loss_centers": self.weight * loss}


def apply_ceco(
    model_cfg: Config,
    *,
    weight: float = 0.8,
    scale: float = 5.0,
    dim: int = 512,
    seed: int | None = None,
    data: Mapping[str, Any],
) -> Config:
    """Train a model with CeCo on what its last decode head classifies; see `sar.door.attach`.

    Args:
        data: with ``pixel_share``.
    """
    share = list(of_data(data, "pixel_share"))
    options = {"weight": weight, "scale": scale, "dim": dim, "seed": seed}
    return attach(model_cfg, CeCo, class_share=share, **options)
