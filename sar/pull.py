"""The pixel-to-anchor pull: mean squared distance of features to the semantic anchor of their
class.

Written out, ``mean((f - m[label]) ** 2)`` needs three tensors as large as the features (the
gathered anchors, the residual, its square) and autograd keeps one of them. Here the features are
read block by block with a scratch of fixed size, and one gradient is written: on a CPU already
during forward, while the block is in the cache.

On a GPU there is a second path, one Triton kernel each for forward and backward
(`sar.pull_kernel`). The environment variable ``SAR_PULL`` chooses, ``torch`` or ``kernel``.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["count_classes", "count_valid", "pixel_to_anchor_pull", "resize_labels", "taken"]

# Elements of scratch. On a CPU a block of 2 MiB (float32) stays in the cache between the passes
# over it, and is large beside the calls that it takes; on a GPU few large launches win, and 128 MiB
# is still little beside a batch of features. Features that fit in one such block are taken in one
# piece there, as the formula is written: on an H200 the blocks' launches took 3.7 ms for 16 million
# elements, the formula 0.8, and for 189 million 4.1 and 5.1.
_BLOCK_CPU = 1 << 19
_BLOCK_GPU = 1 << 25

PATHS = ("torch", "kernel")
# On a GPU, where SAR_PULL says nothing: the kernel has not been measured on one. It becomes the
# default with a table of `python benchmarks/gpu.py` that shows it ahead.
_DEFAULT = "torch"
_TRITON = importlib.util.find_spec("triton") is not None


@dataclass
class Taken:
    """Which ways to compute the pull this process has taken since `clear`: they round apart."""

    # Attributes and no set: under torch.compile one that is only written is not guarded.
    kernel: bool = False
    one_piece: bool = False
    blocks: bool = False

    def clear(self) -> None:
        for way in fields(self):
            setattr(self, way.name, False)

    def names(self) -> list[str]:
        """Of "kernel", "one piece" and "blocks" those that were taken, in this order."""
        return [way.name.replace("_", " ") for way in fields(self) if getattr(self, way.name)]


taken = Taken()


def resize_labels(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Resize integer labels (N, H, W) to (N, h, w) as ``F.interpolate(mode="nearest")`` does.

    The labels keep their type. Where not every n-th is taken, one row and one column of coordinates
    are interpolated, which torch does for floating point alone.
    """
    if labels.shape[-2:] == torch.Size(size):
        return labels
    if 0 in size:
        return labels.new_empty(*labels.shape[:-2], *size)
    (row, more_rows), (column, more_columns) = map(divmod, labels.shape[-2:], size)
    if row and column and not (more_rows or more_columns):
        return labels[:, ::row, ::column].contiguous()
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
    *,
    factor: float | None = None,
    active: Tensor | None = None,
    path: str | None = None,
) -> Tensor:
    """L_p2a: mean over channels and valid pixels of (f - m[label]) squared.

    The gradient goes to the features only: the anchors are learned apart from them. The residual
    and the sum are computed in float32 at least, whatever the type of the features; the gradient
    has the features' type. What a void pixel holds reaches neither, even if it is NaN or infinite,
    and a gradient of 0 that comes in leaves as 0 whatever the features hold.

    Args:
        features: f, (N, C, h, w), any floating type and memory format.
        labels: (N, H, W), integers in 0..K-1 or ``ignore_index``; resized to (h, w) by nearest
            neighbour.
        semantic_anchors: m, (K, C). Must not change in place before backward.
        ignore_index: label of the pixels to leave out; None leaves out none.
        pixels: 0-dim tensor, the number of pixels to divide by; the valid pixels of this batch by
            default.
        weights: (K,), of the pixels of each class; 1 by default.
        factor: of the result; None is 1. With one given, and nothing done to the result but adding
            it to other losses, a CPU has the gradient at the end of forward and backward
            only hands it over. That is no more memory: backward would make it first of all.
        active: 0-dim bool; where it is False the result is 0, and so is the gradient, whatever the
            features hold. None is True.
        path: "kernel" or "torch"; by default what the environment variable ``SAR_PULL`` says, and
            else "torch". The kernel serves float32, bf16 and fp16 on a GPU; for all else, and
            where Triton is missing, it is "torch" whatever was asked for.

    Returns:
        Scalar of the compute type; 0 where no pixel is valid, or there is no pixel at all. For a
        ``factor`` of 0, and where a CPU finds ``active`` False, no feature is read.

    Raises:
        ValueError: for an unknown path.
    """
    takes_kernel = _takes_kernel(features, semantic_anchors, path)
    on_cpu = features.device.type == "cpu"
    # The kernel reads no feature either while its gate is closed, and need not ask on the host.
    if factor == 0 or (on_cpu and not takes_kernel and active is not None and not active):
        nothing: Tensor = _Nothing.apply(  # type: ignore[no-untyped-call]  # torch's own method
            features, _compute_type(features, semantic_anchors)
        )
        return nothing
    if takes_kernel:
        from sar.pull_kernel import pull

        taken.kernel = True
        anchors = semantic_anchors.detach()
        times = 1.0 if factor is None else factor
        return pull(features, labels, anchors, ignore_index, pixels, weights, times, active)
    if _in_one_piece(features):
        taken.one_piece = True
    elif features.numel():
        taken.blocks = True
    labels = resize_labels(labels, features.shape[-2:]).long()
    if pixels is None:
        pixels = count_valid(labels, ignore_index)
    # One pixel at least: an empty sum is 0, not 0 / 0.
    divisor = pixels.clamp(min=1).to(_compute_type(features, semantic_anchors)) * features.shape[1]
    expected = None
    if factor is not None and on_cpu:
        # By the operations of autograd: the gradient is used if the one that comes is this one.
        expected = torch.ones_like(divisor) * factor / divisor
    total: Tensor = _SquaredDistance.apply(  # type: ignore[no-untyped-call]  # torch's own method
        features, labels, semantic_anchors.detach(), ignore_index, weights, expected
    )
    result = total / divisor
    if factor is not None:
        result = result * factor
    return result if active is None else torch.where(active, result, torch.zeros_like(result))


def _takes_kernel(features: Tensor, semantic_anchors: Tensor, path: str | None) -> bool:
    if path is None:
        path = os.environ.get("SAR_PULL") or _DEFAULT
    if path not in PATHS:
        raise ValueError(f"SAR_PULL, or path, is {path!r}: expected one of {', '.join(PATHS)}")
    if path == "torch" or _compute_type(features, semantic_anchors) != torch.float32:
        return False
    if features.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return False
    # Offsets inside an image are of 32 bits.
    if not features.numel() or features.shape[1:].numel() >= 2**31:
        return False
    if not _TRITON:
        _say_that_triton_is_missing()
    return _TRITON


@functools.cache
def _say_that_triton_is_missing() -> None:
    logging.getLogger(__name__).warning(
        "Triton is not installed, so the pull takes the slower path in torch: pip install triton"
    )


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
        expected: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(features, labels, semantic_anchors, weights)
        ctx.ignore_index = ignore_index
        given = features, labels, semantic_anchors, ignore_index, weights
        # What void pixels hold drops out by the factor 0, unless it is NaN or infinite: then the
        # sum shows it. A GPU would have to wait to know, and always clears.
        ctx.clears = features.device.type != "cpu"
        ctx.expected = expected if ctx.needs_input_grad[0] else None
        ctx.gradient = None if ctx.expected is None else _like(features)
        total = _sum_of_squares(*given, ctx.clears, ctx.gradient, ctx.expected)
        if not (ctx.clears or total.isfinite()):
            ctx.clears, ctx.gradient = True, None  # backward writes another
            total = _sum_of_squares(*given, clears=True)
        return total.to(_compute_type(features, semantic_anchors))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor | None, ...]:
        features, labels, semantic_anchors, weights = ctx.saved_tensors
        # Handed over once: whoever has it may add to it, and backward may come again.
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None or not torch.equal(grad_total, ctx.expected):
            gradient = _like(features) if gradient is None else gradient
            given = features, labels, semantic_anchors, ctx.ignore_index, weights
            for block, residual, valid in _residuals(*given, gradient):
                _write(block, residual, valid, 2 * grad_total, ctx.clears)
        return gradient, None, None, None, None, None


class _Nothing(torch.autograd.Function):
    """0 for any features, and the gradient 0: one element that stands for all (a hook that changes
    a gradient in place has to copy it first).
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, compute_type: torch.dtype) -> Tensor:
        ctx.gradient = features.new_zeros(()).expand(features.shape)
        return features.new_zeros((), dtype=compute_type)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor, None]:
        return ctx.gradient, None


def _like(features: Tensor) -> Tensor:
    """Room for the gradient, laid out as the features are read."""
    layout = torch.channels_last if _pixels_first(features) else torch.contiguous_format
    return torch.empty_like(features, memory_format=layout)


def _write(block: Tensor, residual: Tensor, valid: Tensor, factor: Tensor, clears: bool) -> None:
    """Write the gradient of a block. ``factor`` is 2 times the gradient of the squares' sum."""
    scale = valid * factor
    torch.mul(residual, scale, out=block)
    if clears:
        block.masked_fill_(scale == 0, 0)


def _sum_of_squares(
    features: Tensor,
    labels: Tensor,
    semantic_anchors: Tensor,
    ignore_index: int | None,
    weights: Tensor | None,
    clears: bool,
    gradient: Tensor | None = None,
    expected: Tensor | None = None,
) -> Tensor:
    """The sum of `_SquaredDistance`, float64; NaN or infinite where one of the squares is.

    Args:
        clears: whether pixels of weight 0 are left out even if they are NaN or infinite.
        gradient: is written, for an ``expected`` gradient of the sum; None leaves that to backward.
    """
    # Only the channels of one pixel are added in float32, pixels and blocks in float64: the error
    # does not grow with the size of the map.
    total = torch.zeros((), dtype=torch.float64, device=features.device)
    given = features, labels, semantic_anchors, ignore_index, weights
    factor = None if expected is None else 2 * expected
    for block, residual, valid in _residuals(*given, gradient):
        if factor is not None:
            _write(block, residual, valid, factor, clears)
        distances = residual.square_().sum_to_size(valid.shape)
        if clears:
            distances.masked_fill_(valid == 0, 0)
        total += torch.dot(distances.double().reshape(-1), valid.double().reshape(-1))
    return total


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
    if not features.numel():
        return iter(())
    mirror = features if mirror is None else mirror
    anchors = semantic_anchors.to(_compute_type(features, semantic_anchors))
    valid = torch.ones_like(labels, dtype=anchors.dtype)
    if ignore_index is not None:
        mask = labels != ignore_index
        labels = torch.where(mask, labels, 0)
        valid = mask.to(anchors.dtype)
    if weights is not None:
        valid = valid * weights.to(anchors.dtype)[labels]
    blocks = _blocks_of_pixels if _pixels_first(features) else _blocks_of_channels
    if _in_one_piece(features):
        blocks = _one_block
    return blocks(features, labels, anchors, valid, mirror, _limit(features))


def _limit(features: Tensor) -> int:
    """Elements of a block: those of a pixel's channels at least."""
    limit = _BLOCK_CPU if features.device.type == "cpu" else _BLOCK_GPU
    return max(limit, features.shape[1])


def _in_one_piece(features: Tensor) -> bool:
    fits = 0 < features.numel() <= _limit(features)
    return fits and features.device.type != "cpu"


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
                torch.index_select(table[down], 1, index, out=residual)
                torch.sub(block, residual, out=residual)
                yield out[image, down, across], residual, valid[image, :, across]


def _one_block(
    features: Tensor, labels: Tensor, anchors: Tensor, valid: Tensor, mirror: Tensor, limit: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """All at once, (images, channels, rows, columns), in either memory format."""
    residual = features - anchors[labels].permute(0, 3, 1, 2)
    yield mirror, residual, valid.unsqueeze(1)


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
