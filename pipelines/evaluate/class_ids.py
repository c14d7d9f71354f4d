"""From the scores of a model to class ids and to counts of pixels, on the device where they are.

mmsegmentation's own way brings the scores of an image to the size of its labels also where they
have it, and finds the best of them by a slow reduction: for small images a third of what the model
itself costs. The class ids are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.models.utils import resize
from torch import Tensor

from pipelines.base.metrics import confusion_matrix


@contextmanager
def classes_only(model: Any) -> Iterator[None]:
    """Have a model of mmsegmentation give the classes of pixels, uint8, and no scores.

    Of one that has a score for the foreground alone, nothing changes.
    """
    original = model.postprocess_result

    def postprocess(logits: Tensor, samples: list[Any] | None = None) -> list[Any]:
        if samples is None or logits.shape[1] == 1:
            return original(logits, samples)
        for index, sample in enumerate(samples):
            meta = sample.metainfo
            own = _as_taken(logits[index : index + 1], meta)
            ids = class_ids(own, meta["ori_shape"], align_corners=model.align_corners)
            sample.pred_sem_seg = PixelData(data=ids)
        return samples

    model.postprocess_result = postprocess
    try:
        yield
    finally:
        del model.postprocess_result


def _as_taken(logits: Tensor, meta: dict[str, Any]) -> Tensor:
    """The scores (1, K, h, w) of an image without what was added around it, and not mirrored."""
    left, right, top, bottom = meta.get("img_padding_size", meta.get("padding_size", [0] * 4))
    height, width = logits.shape[-2:]
    logits = logits[..., top : height - bottom, left : width - right]
    if meta.get("flip"):
        logits = logits.flip(-1 if meta["flip_direction"] == "horizontal" else -2)
    return logits


def class_ids(logits: Tensor, size: Sequence[int], *, align_corners: bool | None) -> Tensor:
    """The class with the highest score of each pixel, (1, H, W) uint8; of equal ones the first.

    Args:
        logits: (1, K, h, w).
        size: H and W, to which the scores are brought bilinearly: all at once, since PyTorch rounds
            those of a few classes otherwise.
        align_corners: as PyTorch's `interpolate` has it.
    """
    if logits.shape[-2:] != tuple(size):
        logits = resize(
            logits, size=tuple(size), mode="bilinear", align_corners=align_corners, warning=False
        )
    # As argmax, in a quarter of its time.
    return logits.max(dim=1).indices.to(torch.uint8)


def pixel_counts(
    truth: Tensor, prediction: Tensor, num_classes: int, ignore_index: int
) -> np.ndarray:
    """Pixel counts (K, K), as `base.metrics.confusion_matrix`, of class ids on any device: that is
    where they are counted, and the counts are all that is sent.

    Args:
        truth, prediction: of equal shape; integers of any type.

    Raises:
        ValueError: as `confusion_matrix`.
    """
    if truth.device.type != "cpu":
        counts = _counted(truth, prediction, num_classes, ignore_index).cpu().numpy()
        if not counts[-1]:
            return counts[: num_classes**2].reshape(num_classes, num_classes)
    return confusion_matrix(
        truth.cpu().numpy(), prediction.cpu().numpy(), num_classes, ignore_index
    )


def _counted(truth: Tensor, prediction: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """The pixels of each cell of the matrix, row by row, then those that are ignored, then those
    of which an id is no class: (K * K + 2,)."""
    cells, truth = num_classes**2, truth.long()
    inside = (truth >= 0) & (truth < num_classes) & (prediction < num_classes)
    cell = torch.where(inside, num_classes * truth + prediction, cells + 1)
    cell = torch.where(truth == ignore_index, cells, cell)
    return torch.bincount(cell.flatten(), minlength=cells + 2)
