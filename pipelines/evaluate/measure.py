"""Test a model on a split: its predictions, the pixels it confuses, the features it classified."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipelines.base.artifacts import Stopwatch, canonical_json
from pipelines.base.errors import PipelineError
from pipelines.base.metric_names import headline
from pipelines.base.metrics import SubsetScores, scores
from pipelines.base.rows import write_rows
from pipelines.running.processes import BatchShare, gathered, rank
from pipelines.running.stage import writing
from pipelines.study import Run, made

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from pipelines.evaluate.collector import Collector
    from pipelines.evaluate.feature_statistics import ImageFeatures
    from pipelines.evaluate.subject import CheckpointTest


class Counted(NamedTuple):
    """Of one image what the scores and the analysis need; small enough to be sent."""

    stem: str
    pixels: np.ndarray
    """(K, K), rows truth, columns prediction."""
    prediction: np.ndarray | None
    """Class ids (H, W), where they are kept."""
    features: ImageFeatures | None
    missing: str


class Prediction(NamedTuple):
    """Of one image: class ids (H, W) on the model's device and, unless `missing` says why not, its
    feature map."""

    stem: str
    truth: Tensor
    prediction: Tensor
    features: np.ndarray | None
    """(C, h, w), what the last decode head classified."""
    labels: np.ndarray | None
    """(h, w), the truth at its resolution."""
    stride: tuple[float, float] | None
    """Rows and columns of the model's input for a pixel of the map."""
    missing: str


class Tested(NamedTuple):
    """A model that is tested, and what is kept of its training."""

    model: Any
    pipeline: list[dict[str, Any]]
    """Of mmsegmentation: from an image file to what the model takes."""
    state: Mapping[str, np.ndarray]
    """Of the plug-in, by name."""
    log: Mapping[str, np.ndarray]
    """The plug-in's diagnostics by name."""
    inputs: Sequence[Path]
    """The files that the results come from, for the receipt."""


def measure(run: Run | CheckpointTest, tested: Tested, watch: Stopwatch) -> None:
    """Test a model on the split that `run` names, and write what the stage declares."""
    import numpy as np

    from pipelines.evaluate.collector import Collector, KeptPredictions
    from pipelines.evaluate.features import classifier_arrays
    from pipelines.evaluate.multi_scale import multi_scale_confusion

    info, card, split = made.info(run.dataset), run.dataset.card, run.evaluation.split
    confusion = np.zeros((len(card.classes), len(card.classes)), dtype=np.int64)
    kept = KeptPredictions(run.keeps_predictions)
    collector = Collector(card.classes)
    chosen = run.dataset.subsets(run.evaluation, run.dataset.card_file)
    patterns = {name: each.images for name, each in chosen.items()}
    images_of_split = [path.stem for path in (run.dataset.prepared / "labels" / split).iterdir()]
    try:
        subsets = SubsetScores(patterns, images_of_split)
    except ValueError as error:
        raise PipelineError(f"{run.dataset.card_file}: subsets.{error}") from None
    loader = _loader(run, tested.pipeline)
    counted = _count(run, _predict(run, tested.model, loader), loader, collector)
    images = 0
    for image in gathered(counted, loader.batch_size):
        images += 1
        confusion += image.pixels
        subsets.add(image.stem, image.pixels)
        if image.prediction is not None:
            kept.add(image.stem, image.prediction)
        collector.add(image.stem, image.pixels)
        if image.features is None:
            collector.without_features(image.missing)
        else:
            collector.join_features(image.features)
    averaged = None
    if isinstance(run, Run) and run.evaluation.multi_scale is not None:
        averaged = multi_scale_confusion(run, tested.model)
    if rank() > 0:
        return
    if not confusion.any():
        raise PipelineError(
            f"{run.dataset.prepared}/labels/{split}: no labelled pixel in {images} images: void "
            f"alone has no score; expected a split with labels, in {run.dataset.card_file}"
        )
    if subsets.unlabelled:
        raise PipelineError(
            f"{run.dataset.card_file}: subsets.{subsets.unlabelled[0]}: no labelled pixel in its "
            "images, so it has no score; expected images with labels"
        )
    metrics = {
        "dataset": run.dataset.name,
        "split": split,
        "num_images": images,
        **scores(confusion, card.classes, info["groups"]),
    }
    if averaged is not None:
        metrics["multi-scale"] = scores(averaged, card.classes, info["groups"])
    if patterns:
        metrics["subsets"] = subsets.scores(card.classes, info["groups"])
    with writing("evaluate", run, tested.inputs, watch=watch) as outputs:
        scratch = outputs.folder
        (scratch / "metrics.json").write_text(canonical_json(metrics), encoding="utf-8")
        (scratch / "scores.json").write_text(canonical_json(headline(metrics)), encoding="utf-8")
        rows = zip(card.classes, *confusion.T.tolist(), strict=True)
        write_rows(scratch / "confusion.csv", ["truth", *card.classes], rows)
        kept.write(scratch / "predictions.npz")
        collector.write(
            scratch / "analysis.npz",
            classifier=classifier_arrays(tested.model),
            state=tested.state,
            log=tested.log,
        )


def _loader(run: Run | CheckpointTest, pipeline: list[dict[str, Any]]) -> Any:
    """A loader of this process's share of the split."""
    from mmengine.runner import Runner

    from pipelines.configs.images import dataloader

    config = dataloader(run.dataset, run.evaluation.split, run.evaluation.batch_size, pipeline)
    config["sampler"] = {"type": BatchShare, "batch_size": config["batch_size"]}
    # What was imported stays: mmengine collects garbage here, and need not go through all of it.
    gc.freeze()
    return Runner.build_dataloader(config)


def _count(
    run: Run | CheckpointTest, images: Iterator[Prediction], loader: Any, collector: Collector
) -> Iterator[Counted]:
    """What is to be known of each image, done by the process that has it."""
    from pipelines.evaluate.class_ids import pixel_counts

    card = run.dataset.card
    for index, image in zip(loader.sampler.indices, images, strict=True):
        pixels = pixel_counts(image.truth, image.prediction, len(card.classes), card.ignore_index)
        prediction = image.prediction.cpu().numpy() if run.keeps_predictions else None
        features = None
        found, labels, stride = image.features, image.labels, image.stride
        if found is not None and labels is not None and stride is not None:
            features = collector.of_image(index, found, labels, stride)
        yield Counted(image.stem, pixels, prediction, features, image.missing)


def _predict(run: Run | CheckpointTest, model: Any, loader: Any) -> Iterator[Prediction]:
    """What `model` predicts for every image that `loader` gives, in order."""
    import torch

    from pipelines.evaluate.class_ids import classes_only
    from pipelines.evaluate.features import (
        NoFeatureMapError,
        feature_maps,
        map_labels,
        record_features,
    )

    ignore_index = run.dataset.card.ignore_index
    seen = record_features(model)
    with torch.inference_mode(), classes_only(model):
        for batch in loader:
            samples, maps, missing = model.test_step(batch), None, ""
            try:
                maps = feature_maps(seen, len(samples)).float().cpu()
            except NoFeatureMapError as error:
                missing = str(error)
            seen.clear()
            for index, sample in enumerate(samples):
                truth = sample.gt_sem_seg.data[0]
                features = labels = stride = None
                if maps is not None:
                    features = maps[index].numpy()
                    # Prepared labels are of one byte: an eighth of what would be sent otherwise.
                    labels, stride = map_labels(
                        truth.byte(), sample.metainfo, features.shape[1:], ignore_index
                    )
                yield Prediction(
                    Path(sample.img_path).stem,
                    truth,
                    sample.pred_sem_seg.data[0].byte(),
                    features,
                    labels,
                    stride,
                    missing,
                )
