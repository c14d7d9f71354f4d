"""The configs of loaders and of the steps from an image file to what a model takes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from pipelines.base.errors import PipelineError
from pipelines.study import Dataset, Run, made
from sar.large_images import allow_large_images


def dataloader(
    dataset: Dataset, split: str, batch_size: int, pipeline: list[dict]
) -> dict[str, Any]:
    """Config of a loader over a prepared split; shuffled without end for `train`.

    It loads in the main process: worker processes would compete with runs that share the machine.
    Outside training, images of unequal sizes cannot form a batch: they come one by one.
    """
    allow_large_images()
    info = made.info(dataset)
    if split != "train" and split in info.get("unequal_sizes", []):
        batch_size = 1
    sampler = "InfiniteSampler" if split == "train" else "DefaultSampler"
    suffixes = sorted(info.get("suffixes", {}).get(split, [".png"]))
    datasets = [_dataset(dataset, split, suffix, pipeline) for suffix in suffixes]
    return {
        "batch_size": batch_size,
        "num_workers": 0,
        "sampler": {"type": sampler, "shuffle": split == "train"},
        "dataset": datasets[0]
        if len(datasets) == 1
        else {"type": "ConcatDataset", "datasets": datasets},
    }


def _dataset(dataset: Dataset, split: str, suffix: str, pipeline: list[dict]) -> dict[str, Any]:
    """Config of those images of a prepared split whose files end in `suffix`."""
    card = dataset.card
    return {
        "type": "BaseSegDataset",
        "data_root": dataset.prepared.as_posix(),
        "data_prefix": {"img_path": f"images/{split}", "seg_map_path": f"labels/{split}"},
        "img_suffix": suffix,
        "seg_map_suffix": ".png",
        "metainfo": {"classes": card.classes, "palette": card.palette},
        "ignore_index": card.ignore_index,
        "reduce_zero_label": False,
        "pipeline": pipeline,
    }


def training_pipeline(run: Run, *, edges: bool = False) -> list[dict[str, Any]]:
    """From an image file to what a model is trained with.

    Args:
        edges: with a map of the labels' edges, 1 within four pixels of one, as in PIDNet's configs.

    Raises:
        PipelineError: when images of unequal sizes are to be scaled without a base size, or each
            would leave a part of its crop empty both ways.
    """
    augmentation, card = run.training.augmentation, run.dataset.card
    steps = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}, *_resize(run)]
    bounds = None
    if augmentation.scale_range is not None:
        bounds = _image_scale(run)
        steps.append(
            {
                "type": "RandomResize",
                "scale": bounds,
                "ratio_range": tuple(augmentation.scale_range),
                "keep_ratio": True,
            }
        )
    if augmentation.crop_size is not None:
        _check_crop(run, augmentation.crop_size, bounds)
        steps.append(
            {
                "type": "RandomCrop",
                "crop_size": tuple(augmentation.crop_size),
                "cat_max_ratio": augmentation.cat_max_ratio,
                "ignore_index": card.ignore_index,
            }
        )
    if augmentation.flip:
        steps.append({"type": "RandomFlip", "prob": augmentation.flip})
    if augmentation.photometric:
        strengths = (
            {} if augmentation.photometric is True else augmentation.photometric.model_dump()
        )
        steps.append({"type": "PhotoMetricDistortion"} | strengths)
    if edges:
        steps.append({"type": "GenerateEdge", "edge_width": 4, "ignore_index": card.ignore_index})
    return [*steps, {"type": "PackSegInputs"}]


def evaluation_pipeline(run: Run) -> list[dict[str, Any]]:
    """Labels keep their own size, to which mmseg brings the predictions back."""
    image, labels = {"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}
    return [image, *_fit(run), labels, {"type": "PackSegInputs"}]


def multi_scale_pipeline(run: Run) -> list[dict[str, Any]]:
    """As `evaluation_pipeline`, once for each of the views that `multi_scale` asks for.

    With `base_size`, a scale multiplies its bounds, and the image is fitted into the product in one
    step, as in mmsegmentation 0.x, with which the published numbers were made. The configs of 1.x
    scale the image's own size instead; on Cityscapes that is the same.
    """
    views, base = run.evaluation.multi_scale, run.evaluation.base_size
    assert views is not None  # Without it nothing asks for this.
    image_scale = run.study.file.image_scale

    def resize(scale: float) -> dict[str, Any]:
        if base is None:
            return {"type": "Resize", "scale_factor": scale * image_scale, "keep_ratio": True}
        return _fit_into(base, scale * image_scale)

    return [
        {"type": "LoadImageFromFile"},
        {
            "type": "TestTimeAug",
            "transforms": [
                [resize(scale) for scale in views.scales],
                [
                    {"type": "RandomFlip", "prob": probability, "direction": "horizontal"}
                    for probability in ((0.0, 1.0) if views.flip else (0.0,))
                ],
                [{"type": "LoadAnnotations"}],
                [{"type": "PackSegInputs"}],
            ],
        },
    ]


def _resize(run: Run) -> list[dict[str, Any]]:
    """The step that applies the study's `image_scale`."""
    scale = run.study.file.image_scale
    if scale == 1:
        return []
    return [{"type": "Resize", "scale_factor": scale, "keep_ratio": True}]


def _fit(run: Run) -> list[dict[str, Any]]:
    """The step that brings an image to the size at which it is tested."""
    base = run.evaluation.base_size
    return _resize(run) if base is None else [_fit_into(base, run.study.file.image_scale)]


def _fit_into(base: Sequence[int], factor: float) -> dict[str, Any]:
    bounds = tuple(round(side * factor) for side in base)
    return {"type": "Resize", "scale": bounds, "keep_ratio": True}


def _image_scale(run: Run) -> tuple[int, int]:
    """(width, height) of the training images, the scale that `scale_range` multiplies.

    Or the study's `base_size`, which has to be there for images of unequal sizes.
    """
    size: Sequence[int] | None = run.training.augmentation.base_size
    if size is None:
        if "train" in made.info(run.dataset).get("unequal_sizes", []):
            raise PipelineError(
                f"{run.study.path}: training.augmentation.base_size: expected two sides in pixels "
                f"for scale_range to multiply: the training images of {run.dataset.name} have "
                "unequal sizes"
            )
        size = next(_sizes(run.dataset))
    width, height = (round(side * run.study.file.image_scale) for side in size)
    return width, height


def _sizes(dataset: Dataset) -> Iterator[tuple[int, int]]:
    """(width, height) of each prepared training image, in the order of their names."""
    from PIL import Image

    allow_large_images()
    for path in sorted((dataset.prepared / "images" / "train").iterdir()):
        with Image.open(path) as image:
            yield image.size


def _check_crop(run: Run, crop: Sequence[int], bounds: tuple[int, int] | None) -> None:
    """Refuse a crop (height, width) that no training image fills either way, as large as it gets.

    Nearly always the first image tells.

    Args:
        bounds: those that `scale_range` multiplies; None where it does not.
    """
    augmentation, scale = run.training.augmentation, run.study.file.image_scale
    largest = (0, 0)
    for width, height in _sizes(run.dataset):
        factor = scale
        if bounds is not None:
            # As mmcv fits an image: the longer side into the longer bound, and the shorter.
            sides = sorted((width, height))
            factor = max(augmentation.scale_range or ()) * min(
                bound / side for bound, side in zip(sorted(bounds), sides, strict=True)
            )
        size = round(width * factor), round(height * factor)
        if size[1] >= crop[0] or size[0] >= crop[1]:
            return
        largest = max(largest, size, key=math.prod)
    images = f"all training images of {run.dataset.name}, of which the largest becomes "
    images += f"[{largest[1]}, {largest[0]}]"
    raise PipelineError(
        f"{run.study.path}: training.augmentation.{augmentation.crop_fault(images, scale)}"
    )
