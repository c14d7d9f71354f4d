"""The scores of a validation, by the definition that evaluate has."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS


@METRICS.register_module()
class PresentClassesMetric(IoUMetric):
    """mmsegmentation's IoUMetric, but a class without a labelled pixel in the split has no IoU.

    As in `pipelines.base.metrics.scores`. There, and in no other place, mmsegmentation counts 0 as
    soon as one pixel is taken for such a class.
    """

    @staticmethod
    def total_area_to_metrics(
        total_area_intersect: torch.Tensor,
        total_area_union: torch.Tensor,
        total_area_pred_label: torch.Tensor,
        total_area_label: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> dict[str, np.ndarray]:
        """As mmsegmentation's, with NaN, which no mean counts, for the IoU of an absent class."""
        found = IoUMetric.total_area_to_metrics(
            total_area_intersect,
            total_area_union,
            total_area_pred_label,
            total_area_label,
            *args,
            **kwargs,
        )
        found["IoU"] = np.where(total_area_label.numpy() > 0, found["IoU"], np.nan)
        return found
