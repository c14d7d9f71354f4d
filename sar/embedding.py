"""The embedding: maps the fixed class anchors into the space of the features."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

__all__ = ["AnchorEmbedding", "AnchorNorm"]


class AnchorNorm(nn.Module):
    """Batch normalisation over the K anchors, with the state names of ``nn.BatchNorm1d``.

    It is no subclass of torch's batch norms on purpose: ``nn.SyncBatchNorm.convert_sync_batchnorm``
    would turn those into synchronised ones. Every process embeds the same K anchors, so there is
    nothing to synchronise, and synchronised layers refuse CPU tensors.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x, shape (K, C) or (K, C, 1, 1), over its first axis."""
        if self.training:
            self.num_batches_tracked.add_(1)
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.momentum,
            self.eps,
        )


class AnchorEmbedding(nn.Module):
    """Linear, norm, ReLU, twice; then a 1x1 convolution without bias, norm, ReLU.

    Args:
        channels: C, width of the anchors and of everything in between.
        generator: source of the initial weights; None takes torch's global one.
    """

    def __init__(self, channels: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        # skip_init: the constructors of these layers would draw from the global generator.
        self.linear1 = skip_init(nn.Linear, channels, channels)
        self.norm1 = AnchorNorm(channels)
        self.linear2 = skip_init(nn.Linear, channels, channels)
        self.norm2 = AnchorNorm(channels)
        self.conv = skip_init(nn.Conv2d, channels, channels, 1, bias=False)
        self.norm3 = AnchorNorm(channels)
        for linear in (self.linear1, self.linear2):
            nn.init.kaiming_uniform_(linear.weight, a=math.sqrt(5), generator=generator)
            bound = 1 / math.sqrt(channels)
            nn.init.uniform_(linear.bias, -bound, bound, generator=generator)
        nn.init.kaiming_normal_(
            self.conv.weight, mode="fan_out", nonlinearity="relu", generator=generator
        )

    def forward(self, anchors: Tensor) -> Tensor:
        """Embed anchors (K, C) as non-negative points (K, C, 1, 1)."""
        x = F.relu(self.norm1(self.linear1(anchors)))
        x = F.relu(self.norm2(self.linear2(x)))
        return F.relu(self.norm3(self.conv(x[:, :, None, None])))
