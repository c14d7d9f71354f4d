"""The multi-scale test: class probabilities averaged over scaled and mirrored views of an image.

The same as mmsegmentation's `SegTTAModel`, which keeps the probabilities of all views until the
last: 3.6 GB for each view of an image of 6 megapixels with 150 classes. Here they are summed up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.runner import Runner
from torch import Tensor

from pipelines.base.errors import PipelineError
from pipelines.base.metrics import confusion_matrix
from pipelines.configs.images import dataloader, multi_scale_pipeline
from pipelines.running.processes import BatchShare, gathered, rank
from pipelines.study import Run


def multi_scale_confusion(run: Run, model: Any) -> np.ndarray | None:
    """Pixel counts (K, K) over the evaluation split, rows truth, columns prediction.

    Of several processes each predicts its share of the images, and the first has the counts of all.

    Returns:
        None in the other processes.

    Raises:
        PipelineError: for a model that has not one score a class.
    """
    card = run.dataset.card
    loader = multi_scale_loader(run)
    shares = gathered(
        (
            confusion_matrix(truth, prediction, len(card.classes), card.ignore_index)
            for truth, prediction in multi_scale_predictions(run, model, loader)
        ),
        loader.batch_size,
    )
    total = sum(shares, np.zeros((len(card.classes), len(card.classes)), dtype=np.int64))
    return total if rank() == 0 else None


def multi_scale_loader(run: Run) -> Any:
    """This process's share of the split, every image in all of its views."""
    config = dataloader(
        run.dataset, run.evaluation.split, run.evaluation.batch_size, multi_scale_pipeline(run)
    )
    config["sampler"] = {"type": BatchShare, "batch_size": config["batch_size"]}
    return Runner.build_dataloader(config)


def multi_scale_predictions(
    run: Run, model: Any, loader: Any
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Truth and predicted class ids, each (H, W), of every image of `loader`, in order."""
    if model.out_channels != len(run.dataset.card.classes):
        raise PipelineError(
            f"{run.study.path}: evaluation.multi_scale: averages one score a class, and the model "
            f"{run.model!r} has {model.out_channels} for {len(run.dataset.card.classes)} classes"
        )
    with torch.inference_mode():
        for views in loader:
            summed, samples = _summed(model, views)
            for probabilities, sample in zip(summed, samples, strict=True):
                truth = sample.gt_sem_seg.data[0].cpu().numpy()
                # As argmax, in a quarter of its time.
                yield truth, probabilities.max(dim=0).indices.byte().cpu().numpy()


def _summed(model: Any, views: dict[str, list]) -> tuple[list[Tensor], list[Any]]:
    """For each image of a batch the sum over views of its class probabilities (K, H, W).

    mmseg brings the scores of every view back to the size and side of the labels.
    """
    summed: list[Tensor] = []
    for inputs, data_samples in zip(views["inputs"], views["data_samples"], strict=True):
        samples = model.test_step({"inputs": inputs, "data_samples": data_samples})
        probabilities = [sample.seg_logits.data.softmax(dim=0) for sample in samples]
        if not summed:
            summed, first = probabilities, samples
        else:
            for total, more in zip(summed, probabilities, strict=True):
                total += more
    return summed, first
