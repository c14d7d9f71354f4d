"""The pixel-to-anchor pull: mean squared distance of features to the semantic anchor of their
class.

Written out, ``mean((f - m[label]) ** 2)`` needs three tensors as large as the features (the
gathered anchors, the residual, its square) and autograd keeps one of them. Here the features are
read block by block with a scratch of fixed size, autograd keeps nothing but the features, and
backward writes one gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["count_classes", "count_valid", "pixel_to_anchor_pull", "resize_labels"]

# Elements of scratch. On a CPU a block of 1 MiB (float32) stays in a core's cache between the three
# passes over it; on a GPU few large launches win, and 128 MiB is still little beside a batch of
# features.
_BLOCK_CPU = 1 << 18
_BLOCK_GPU = 1 << 25


def resize_labels(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Resize integer labels (N, H, W) to (N, h, w) as ``F.interpolate(mode="nearest")`` does.

    Only one row and one column of coordinates are interpolated, which torch does for floating point
    alone; the labels keep their type and are read once.
    """
    if labels.shape[-2:] == torch.Size(size):
        return labels
    rows, columns = (
        F.interpolate(
            torch.arange(old, device=labels.device, dtype=torch.float32)[None, None],
            size=new,
            mode="nearest",
        )[0, 0].long()
        for old, new in zip(labels.shape[-2:], size, strict=True)
    )
    return labels[:, rows[:, None], columns]


def pixel_to_anchor_pull(
    features: Tensor,
    labels: Tensor,
    semantic_anchors: Tensor,
    ignore_index: int | None = 255,
    pixels: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """L_p2a without its weight: mean over channels and valid pixels of (f - m[label]) squared.

    The gradient goes to the features only: the anchors are learned apart from them. The residual
    and the sum are computed in float32 at least, whatever the type of the features; the gradient
    has the features' type.

    Args:
        features: f, (N, C, h, w), any floating type and memory format.
        labels: (N, h, w), integers in 0..K-1 or ``ignore_index``, of the features' size (see
            `resize_labels`).
        semantic_anchors: m, (K, C). Must not change in place before backward.
        ignore_index: label of the pixels to leave out; None leaves out none.
        pixels: 0-dim tensor, the number of pixels to divide by; the valid pixels of this batch by
            default.
        weights: (K,), of the pixels of each class; 1 by default.

    Returns:
        Scalar of the compute type; 0 where no pixel is valid.
    """
    labels = labels.long()
    if pixels is None:
        pixels = count_valid(labels, ignore_index)
    total: Tensor = _SquaredDistance.apply(  # type: ignore[no-untyped-call]  # torch's own method
        features, labels, semantic_anchors.detach(), ignore_index, weights
    )
    # One pixel at least: an empty sum is 0, not 0 / 0.
    return total / (pixels.clamp(min=1).to(total.dtype) * features.shape[1])


def count_classes(labels: Tensor, num_classes: int, ignore_index: int | None) -> Tensor:
    """Number of labels of each class, (K,) float64; nothing here waits for a GPU."""
    labels = labels.long().reshape(-1)
    if ignore_index is not None:
        labels = torch.where(labels == ignore_index, num_classes, labels)
    counts = torch.zeros(num_classes + 1, dtype=torch.float64, device=labels.device)
    ones = torch.ones(1, dtype=torch.float64, device=labels.device)
    return counts.scatter_add_(0, labels, ones.expand(len(labels)))[:num_classes]


def count_valid(labels: Tensor, ignore_index: int | None) -> Tensor:
    """Number of labels other than ``ignore_index``, a 0-dim float64 tensor."""
    if ignore_index is None:
        return torch.tensor(labels.numel(), dtype=torch.float64, device=labels.device)
    return (labels != ignore_index).sum(dtype=torch.float64)


class _SquaredDistance(torch.autograd.Function):
    """Sum over channels and valid pixels of (f - m[label]) squared, times the class's weight."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        labels: Tensor,
        semantic_anchors: Tensor,
        ignore_index: int | None,
        weights: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(features, labels, semantic_anchors, weights)
        ctx.ignore_index = ignore_index
        # Only the channels of one pixel are added in float32, pixels and blocks in float64: the
        # error does not grow with the size of the map.
        total = torch.zeros((), dtype=torch.float64, device=features.device)
        blocks = _residuals(features, labels, semantic_anchors, ignore_index, weights)
        for _, residual, valid in blocks:
            distances = residual.square_().sum_to_size(valid.shape)
            total += torch.dot(distances.double().view(-1), valid.double().view(-1))
        return total.to(_compute_type(features, semantic_anchors))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor, None, None, None, None]:
        features, labels, semantic_anchors, weights = ctx.saved_tensors
        layout = torch.channels_last if _pixels_first(features) else torch.contiguous_format
        gradient = torch.empty_like(features, memory_format=layout)
        factor = 2 * grad_total
        blocks = _residuals(features, labels, semantic_anchors, ctx.ignore_index, weights, gradient)
        for block, residual, valid in blocks:
            torch.mul(residual, valid * factor, out=block)
        return gradient, None, None, None, None


def _residuals(
    features: Tensor,
    labels: Tensor,
    semantic_anchors: Tensor,
    ignore_index: int | None,
    weights: Tensor | None = None,
    mirror: Tensor | None = None,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Stream over f - m[label] in blocks (channels, pixels), or turned for channels_last.

    Yields a block of ``mirror``, its residual (2-dim, in a scratch that the next block overwrites)
    and the weight of its pixels (0 for void), with a 1 in place of the channels. ``mirror`` is a
    tensor laid out like the features (the features themselves by default).
    """
    mirror = features if mirror is None else mirror
    anchors = semantic_anchors.to(_compute_type(features, semantic_anchors))
    valid = torch.ones_like(labels, dtype=anchors.dtype)
    if ignore_index is not None:
        mask = labels != ignore_index
        labels = torch.where(mask, labels, 0)
        valid = mask.to(anchors.dtype)
    if weights is not None:
        valid = valid * weights.to(anchors.dtype)[labels]
    limit = _BLOCK_CPU if features.device.type == "cpu" else _BLOCK_GPU
    limit = max(limit, features.shape[1])
    blocks = _blocks_of_pixels if _pixels_first(features) else _blocks_of_channels
    return blocks(features, labels, anchors, valid, mirror, limit)


def _blocks_of_pixels(
    features: Tensor, labels: Tensor, anchors: Tensor, valid: Tensor, mirror: Tensor, limit: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Of channels_last: blocks of ``limit`` elements at most, (pixels, all channels)."""
    channels = features.shape[1]
    rows, out = (x.permute(0, 2, 3, 1).reshape(-1, channels) for x in (features, mirror))
    labels, valid = labels.reshape(-1), valid.reshape(-1, 1)
    scratch = features.new_empty(min(limit, features.numel()), dtype=anchors.dtype)
    step = limit // channels
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        block = rows[part]
        residual = _view(scratch, block)
        torch.index_select(anchors, 0, labels[part], out=residual)
        torch.sub(block, residual, out=residual)
        yield out[part], residual, valid[part]


def _blocks_of_channels(
    features: Tensor, labels: Tensor, anchors: Tensor, valid: Tensor, mirror: Tensor, limit: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Of contiguous features: blocks of ``limit`` elements at most, (channels, pixels)."""
    n, channels = features.shape[:2]
    table = anchors.t().contiguous()
    planes, out = features.flatten(2), mirror.flatten(2)
    labels, valid = labels.reshape(n, -1), valid.reshape(n, 1, -1)
    scratch = features.new_empty(min(limit, features.numel()), dtype=anchors.dtype)
    pixels = labels.shape[1]
    width = min(pixels, limit)
    height = max(1, limit // max(1, width))
    for image in range(n):
        for first in range(0, pixels, width):
            across = slice(first, first + width)
            index = labels[image, across]
            for channel in range(0, channels, height):
                down = slice(channel, channel + height)
                block = planes[image, down, across]
                residual = _view(scratch, block)
                torch.gather(table[down], 1, index.expand(block.shape), out=residual)
                torch.sub(block, residual, out=residual)
                yield out[image, down, across], residual, valid[image, :, across]


def _view(scratch: Tensor, block: Tensor) -> Tensor:
    """The first elements of the scratch in the block's shape."""
    return scratch[: block.numel()].view(block.shape)


def _pixels_first(features: Tensor) -> bool:
    """Whether the channels of a pixel lie side by side (channels_last)."""
    return not features.is_contiguous() and features.is_contiguous(
        memory_format=torch.channels_last
    )


def _compute_type(features: Tensor, semantic_anchors: Tensor) -> torch.dtype:
    """float32, or float64 if either argument has it."""
    wide = torch.promote_types(features.dtype, semantic_anchors.dtype)
    return torch.promote_types(wide, torch.float32)
