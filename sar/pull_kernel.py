"""The pixel-to-anchor pull as Triton kernels: what `sar.pull` computes, in one pass over f.

Forward reads f once and backward once more while it writes the gradient; nothing else of that size
exists. Each program takes a tile of pixels through the channels: it looks up the label of each
pixel in the map as it is (resized by nearest neighbour, void left out) and the anchor of the
label, and adds squares in float32. There are no atomics: a tile has a place of its own for its sum,
and one last program adds these in float64, so that equal input gives equal bits.

As `torch.library` operators, ``sar::pull`` and ``sar::pull_backward`` go through torch.compile
without a graph break, and into CUDA graphs: nothing here waits for the device.

Import it where Triton is installed. With ``TRITON_INTERPRET=1`` set before Triton is imported the
same kernels run, slowly, on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["TILES", "Tile", "pull"]


@dataclass(frozen=True)
class Tile:
    """Pixels and channels that a program holds at a time (powers of 2), and its warps."""

    pixels: int
    channels: int
    warps: int


# Fixed, not chosen by Triton's autotuner: which tile is taken decides how sums round, and a choice
# by time would differ between two runs. benchmarks/gpu.py --tiles times all of them.
TILES = {
    "contiguous": [Tile(128, 32, 4), Tile(256, 16, 4), Tile(128, 64, 8), Tile(512, 8, 4)],
    "channels_last": [Tile(32, 128, 4), Tile(16, 256, 4), Tile(64, 128, 8), Tile(8, 512, 4)],
}
"""By memory format, the first is used."""

# So many programs keep a large GPU busy. Small maps get them by sharing the channels out.
_PROGRAMS = 512
_SUMMED = 1024  # partial sums added at a time


def pull(
    features: Tensor,
    labels: Tensor,
    semantic_anchors: Tensor,
    ignore_index: int | None,
    pixels: Tensor | None,
    weights: Tensor | None,
    factor: float,
    active: Tensor | None,
) -> Tensor:
    """`sar.pull.pixel_to_anchor_pull` of features of 32 or 16 bits; a float32 scalar.

    A label that is neither a class nor void makes the loss and the gradient of its pixel NaN: an
    error would have to wait for the GPU.
    """
    loss: Tensor
    loss, _ = _pull(
        features, labels, semantic_anchors, ignore_index, pixels, weights, factor, active
    )
    return loss


@torch.library.custom_op("sar::pull", mutates_args=())
def _pull(
    features: Tensor,
    labels: Tensor,
    semantic_anchors: Tensor,
    ignore_index: int | None,
    pixels: Tensor | None,
    weights: Tensor | None,
    factor: float,
    active: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The loss, and by what backward multiplies f - m[label]; both float32 scalars."""
    layout = _layout(features)
    plan = _Plan(layout, labels, semantic_anchors, ignore_index, weights, active)
    blocks, images, splits = plan.grid
    sums = torch.empty(splits * images * blocks, dtype=torch.float32, device=features.device)
    counts = torch.empty(images * blocks, dtype=torch.float32, device=features.device)
    loss, scale = (torch.empty((), dtype=torch.float32, device=features.device) for _ in range(2))
    with torch.cuda.device_of(features):
        _sum_squares[plan.grid](layout, sums, counts, **plan.arguments)
        _finish[(1,)](
            sums,
            counts,
            pixels,
            loss,
            scale,
            len(sums),
            len(counts),
            features.shape[1],
            factor,
            GIVEN=pixels is not None,
            BLOCK=_SUMMED,
        )
    return loss, scale


@_pull.register_fake
def _(features: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    loss, scale = (features.new_empty((), dtype=torch.float32) for _ in range(2))
    return loss, scale


@torch.library.custom_op("sar::pull_backward", mutates_args=())
def _pull_backward(
    grad_loss: Tensor,
    scale: Tensor,
    features: Tensor,
    labels: Tensor,
    semantic_anchors: Tensor,
    ignore_index: int | None,
    weights: Tensor | None,
    active: Tensor | None,
) -> Tensor:
    """The gradient of the features, of their type and memory format."""
    layout = _layout(features)
    gradient = torch.empty_like(layout)
    plan = _Plan(layout, labels, semantic_anchors, ignore_index, weights, active)
    with torch.cuda.device_of(features):
        _write_gradient[plan.grid](layout, gradient, grad_loss, scale, **plan.arguments)
    return gradient


@_pull_backward.register_fake
def _(grad_loss: Tensor, scale: Tensor, features: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(_layout(features))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    features, labels, semantic_anchors, ignore_index, _, weights, _, active = inputs
    ctx.save_for_backward(output[1], features, labels, semantic_anchors, weights, active)
    ctx.ignore_index = ignore_index


def _backward(ctx: Any, grad_loss: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    scale, features, labels, semantic_anchors, weights, active = ctx.saved_tensors
    gradient = _pull_backward(
        grad_loss, scale, features, labels, semantic_anchors, ctx.ignore_index, weights, active
    )
    return gradient, None, None, None, None, None, None, None


_pull.register_autograd(_backward, setup_context=_keep)


def _layout(features: Tensor) -> Tensor:
    """The features, in one of the two memory formats in which pixels have one stride."""
    if features.is_contiguous(memory_format=torch.channels_last):
        return features
    return features.contiguous()


class _Plan:
    """Grid and arguments that forward and backward share."""

    def __init__(
        self,
        features: Tensor,
        labels: Tensor,
        semantic_anchors: Tensor,
        ignore_index: int | None,
        weights: Tensor | None,
        active: Tensor | None,
    ) -> None:
        images, channels, height, width = features.shape
        pixels_first = not features.is_contiguous()
        tile = TILES["channels_last" if pixels_first else "contiguous"][0]
        anchors = semantic_anchors.float()
        # The anchors as the features lie: what neighbouring threads read lies side by side.
        anchors = anchors.contiguous() if pixels_first else anchors.t().contiguous().t()
        across = triton.cdiv(height * width, tile.pixels)
        deep = triton.cdiv(channels, tile.channels)
        splits = max(1, min(deep, _PROGRAMS // (across * images)))
        self.grid = (across, images, splits)
        self.arguments = {
            "labels": labels,
            "anchors": anchors,
            "weights": weights,
            "active": None if active is None else active.view(torch.uint8),
            "pixels": height * width,
            "width": width,
            "channels": channels,
            "classes": len(anchors),
            "ignored": 0 if ignore_index is None else ignore_index,
            "stride_n": features.stride(0),
            "stride_c": 1 if pixels_first else height * width,
            "stride_p": channels if pixels_first else 1,
            "anchor_k": anchors.stride(0),
            "anchor_c": anchors.stride(1),
            "label_n": labels.stride(0),
            "label_y": labels.stride(1),
            "label_x": labels.stride(2),
            "rows": labels.shape[1],
            "columns": labels.shape[2],
            # As torch's "nearest" rounds them: float32.
            "step_y": labels.shape[1] / height,
            "step_x": labels.shape[2] / width,
            "IGNORES": ignore_index is not None,
            "WEIGHTED": weights is not None,
            "GATED": active is not None,
            "RESIZES": labels.shape[1:] != features.shape[2:],
            "SPLITS": splits,
            "TILE_P": tile.pixels,
            "TILE_C": tile.channels,
            "num_warps": tile.warps,
        }


@triton.jit
def _rows_and_weights(
    labels,
    weights,
    image,
    pixel,
    inside,
    width,
    classes,
    ignored,
    label_n,
    label_y,
    label_x,
    rows,
    columns,
    step_y,
    step_x,
    IGNORES: tl.constexpr,
    WEIGHTED: tl.constexpr,
    RESIZES: tl.constexpr,
):
    """Of each pixel its class, its weight (0 for void, NaN for an unknown label), and whether it
    counts.
    """
    y = pixel // width
    x = pixel % width
    if RESIZES:
        y = tl.minimum((y.to(tl.float32) * step_y).to(tl.int32), rows - 1)
        x = tl.minimum((x.to(tl.float32) * step_x).to(tl.int32), columns - 1)
    at = image.to(tl.int64) * label_n + y.to(tl.int64) * label_y + x * label_x
    # Of int64: an ignore_index of -1 must not wrap round to 255 in uint8.
    label = tl.load(labels + at, mask=inside, other=0).to(tl.int64)
    counts = inside
    if IGNORES:
        counts = counts & (label != ignored)
    known = counts & (label >= 0) & (label < classes)
    row = tl.where(known, label, 0).to(tl.int32)
    weight = known.to(tl.float32)
    if WEIGHTED:
        weight = tl.load(weights + row, mask=known, other=0).to(tl.float32)
    weight = tl.where(counts & (known == 0), float("nan"), weight)
    return row, weight, counts


@triton.jit
def _sum_squares(
    features,
    sums,
    counts,
    labels,
    anchors,
    weights,
    active,
    pixels,
    width,
    channels,
    classes,
    ignored,
    stride_n,
    stride_c,
    stride_p,
    anchor_k,
    anchor_c,
    label_n,
    label_y,
    label_x,
    rows,
    columns,
    step_y,
    step_x,
    IGNORES: tl.constexpr,
    WEIGHTED: tl.constexpr,
    GATED: tl.constexpr,
    RESIZES: tl.constexpr,
    SPLITS: tl.constexpr,
    TILE_P: tl.constexpr,
    TILE_C: tl.constexpr,
):
    """Sum over a tile's pixels, and its share of the channels, of weight (f - m[label])^2."""
    block = tl.program_id(0)
    image = tl.program_id(1)
    split = tl.program_id(2)
    place = image * tl.num_programs(0) + block
    pixel = block * TILE_P + tl.arange(0, TILE_P)
    inside = pixel < pixels
    read = inside
    if GATED:  # while the gate is closed no pixel counts, and no feature is read
        read = inside & (tl.zeros([TILE_P], tl.int32) + tl.load(active).to(tl.int32) > 0)
    row, weight, valid = _rows_and_weights(
        labels,
        weights,
        image,
        pixel,
        read,
        width,
        classes,
        ignored,
        label_n,
        label_y,
        label_x,
        rows,
        columns,
        step_y,
        step_x,
        IGNORES,
        WEIGHTED,
        RESIZES,
    )
    acts = weight != 0
    start = features + image.to(tl.int64) * stride_n
    total = tl.zeros([TILE_C, TILE_P], tl.float32)
    for first in range(split * TILE_C, channels, SPLITS * TILE_C):
        channel = first + tl.arange(0, TILE_C)
        held = (channel < channels)[:, None]
        at = channel[:, None] * stride_c + pixel[None, :] * stride_p
        # Void is read, too, and left out afterwards: a mask by labels would make single loads of
        # those of 16 bytes.
        f = tl.load(start + at, mask=held & read[None, :], other=0).to(tl.float32)
        m = tl.load(
            anchors + row[None, :] * anchor_k + channel[:, None] * anchor_c,
            mask=held & acts[None, :],
            other=0,
        )
        residual = tl.where(acts[None, :], f - m, 0.0)
        total += residual * residual
    tl.store(
        sums + split * (tl.num_programs(0) * tl.num_programs(1)) + place,
        tl.sum(tl.sum(total, 0) * weight, 0),
    )
    if split == 0:
        tl.store(counts + place, tl.sum(valid.to(tl.float32), 0))


@triton.jit
def _write_gradient(
    features,
    gradient,
    grad_loss,
    scale,
    labels,
    anchors,
    weights,
    active,
    pixels,
    width,
    channels,
    classes,
    ignored,
    stride_n,
    stride_c,
    stride_p,
    anchor_k,
    anchor_c,
    label_n,
    label_y,
    label_x,
    rows,
    columns,
    step_y,
    step_x,
    IGNORES: tl.constexpr,
    WEIGHTED: tl.constexpr,
    GATED: tl.constexpr,
    RESIZES: tl.constexpr,
    SPLITS: tl.constexpr,
    TILE_P: tl.constexpr,
    TILE_C: tl.constexpr,
):
    """The gradient of a tile's pixels, in its share of the channels; laid out as the features."""
    block = tl.program_id(0)
    image = tl.program_id(1)
    split = tl.program_id(2)
    pixel = block * TILE_P + tl.arange(0, TILE_P)
    inside = pixel < pixels
    read = inside
    if GATED:
        read = inside & (tl.zeros([TILE_P], tl.int32) + tl.load(active).to(tl.int32) > 0)
    row, weight, _ = _rows_and_weights(
        labels,
        weights,
        image,
        pixel,
        read,
        width,
        classes,
        ignored,
        label_n,
        label_y,
        label_x,
        rows,
        columns,
        step_y,
        step_x,
        IGNORES,
        WEIGHTED,
        RESIZES,
    )
    factor = tl.load(grad_loss).to(tl.float32) * tl.load(scale)
    factor = tl.where(weight == 0, 0.0, weight * factor)
    acts = factor != 0
    start = image.to(tl.int64) * stride_n
    for first in range(split * TILE_C, channels, SPLITS * TILE_C):
        channel = first + tl.arange(0, TILE_C)
        held = (channel < channels)[:, None]
        at = channel[:, None] * stride_c + pixel[None, :] * stride_p
        f = tl.load(features + start + at, mask=held & read[None, :], other=0).to(tl.float32)
        m = tl.load(
            anchors + row[None, :] * anchor_k + channel[:, None] * anchor_c,
            mask=held & acts[None, :],
            other=0,
        )
        value = tl.where(acts[None, :], (f - m) * factor[None, :], 0.0)
        tl.store(
            gradient + start + at,
            value.to(gradient.dtype.element_ty),
            mask=held & inside[None, :],
        )


@triton.jit
def _finish(
    sums,
    counts,
    pixels,
    loss,
    scale,
    how_many_sums,
    how_many_counts,
    channels,
    factor,
    GIVEN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Add what the tiles found, always in the same order, and divide."""
    lane = tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float64)
    for first in range(0, how_many_sums, BLOCK):
        at = first + lane
        total += tl.load(sums + at, mask=at < how_many_sums, other=0).to(tl.float64)
    if GIVEN:
        divisor = tl.load(pixels).to(tl.float64)
    else:
        valid = tl.zeros([BLOCK], tl.float64)
        for first in range(0, how_many_counts, BLOCK):
            at = first + lane
            valid += tl.load(counts + at, mask=at < how_many_counts, other=0).to(tl.float64)
        divisor = tl.sum(valid, 0)
    # One pixel at least: an empty sum is 0, not 0 / 0.
    divisor = tl.maximum(divisor, 1.0) * channels
    tl.store(loss, (tl.sum(total, 0) / divisor * factor).to(tl.float32))
    tl.store(scale, (2.0 * factor / divisor).to(tl.float32))
