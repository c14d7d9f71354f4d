"""The feature map that a segmentation model classifies at inference, and the labels of its pixels.

Whatever the decode head is, what enters its `cls_seg` is the map in question: that of the last head
of a cascade, before dropout. A head that classifies something else (masks, sampled points, several
windows of one image) has no such map, and `feature_maps` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sar.pull import resize_labels
from sar.support import last_head


class NoFeatureMapError(ValueError):
    """The model does not classify one feature map an image; the message says what it does."""


def record_features(model: nn.Module) -> list[Any]:
    """Have `model` append each argument of its last head's `cls_seg` to the list returned.

    For a model that is used for inference and then dropped: the recorder stays on it. The list is
    the caller's to clear after each batch.
    """
    seen: list[Any] = []
    head = last_head(getattr(model, "decode_head", None))
    original = getattr(head, "cls_seg", None)
    if original is not None:

        def recorded(feature: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(feature)
            return original(feature, *args, **kwargs)

        head.cls_seg = recorded
    return seen


def feature_maps(seen: Sequence[Any], images: int) -> Tensor:
    """The one map (N, C, h, w) among what `record_features` saw of a batch of `images` images.

    Raises:
        NoFeatureMapError: where there is no such map, or more than one.
    """
    if len(seen) != 1:
        raise NoFeatureMapError(
            f"the last decode head called cls_seg {len(seen)} times for one batch, expected once"
        )
    feature = seen[0]
    if not isinstance(feature, Tensor) or feature.ndim != 4 or len(feature) != images:
        shape = tuple(feature.shape) if isinstance(feature, Tensor) else type(feature).__name__
        raise NoFeatureMapError(f"cls_seg was given {shape}, expected ({images}, C, h, w)")
    return feature


def map_labels(
    truth: Tensor, meta: Mapping[str, Any], size: Sequence[int], ignore_index: int
) -> tuple[np.ndarray, tuple[float, float]]:
    """Labels (H, W) at the resolution (h, w) of a feature map, by nearest neighbour.

    The rule of the losses in training. What the model's preprocessor added to the image is ignored.

    Args:
        meta: the image's entries in mmsegmentation: the size to which it was scaled, and its
            padding (left, right, top, bottom).

    Returns:
        The labels, and how many rows and columns of the model's input a pixel of the map stands
        for.
    """
    padding = list(meta.get("img_padding_size", meta.get("padding_size", (0, 0, 0, 0))))
    scaled = resize_labels(truth.cpu()[None], tuple(meta["img_shape"][:2]))
    padded = F.pad(scaled, padding, value=ignore_index) if any(padding) else scaled
    labels = resize_labels(padded, tuple(size))[0]
    rows, columns = (old / new for old, new in zip(padded.shape[1:], size, strict=True))
    return labels.to(torch.int64).numpy(), (rows, columns)


def classifier_arrays(model: nn.Module) -> dict[str, np.ndarray]:
    """`weight` (K, C) and `bias` (K,) of the last head's 1x1 convolution `conv_seg`; else empty."""
    layer = getattr(last_head(getattr(model, "decode_head", None)), "conv_seg", None)
    if not isinstance(layer, nn.Conv2d) or layer.kernel_size != (1, 1) or layer.groups != 1:
        return {}
    arrays = {"weight": layer.weight.detach().flatten(1).float().cpu().numpy()}
    if layer.bias is not None:
        arrays["bias"] = layer.bias.detach().float().cpu().numpy()
    return arrays
