"""The configs of loaders and of the steps from an image file to what a model takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.base.artifacts import read_json
from pipelines.base.errors import PipelineError
from pipelines.study import Dataset, Run


def dataloader(
    dataset: Dataset, split: str, batch_size: int, pipeline: list[dict]
) -> dict[str, Any]:
    """Config of a loader over a prepared split; shuffled without end for `train`.

    It loads in the main process: worker processes would compete with runs that share the machine.
    Outside training, images of unequal sizes cannot form a batch: they come one by one.
    """
    info = read_json(dataset.info)
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


def training_pipeline(run: Run) -> list[dict[str, Any]]:
    augmentation, card = run.training.augmentation, run.dataset.card
    steps = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}, *_resize(run)]
    if augmentation.scale_range is not None:
        steps.append(
            {
                "type": "RandomResize",
                "scale": _image_scale(run),
                "ratio_range": tuple(augmentation.scale_range),
                "keep_ratio": True,
            }
        )
    if augmentation.crop_size is not None:
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
    from PIL import Image

    size: Sequence[int] | None = run.training.augmentation.base_size
    if size is None:
        if "train" in read_json(run.dataset.info).get("unequal_sizes", []):
            raise PipelineError(
                f"{run.study.path}: training.augmentation.base_size: expected two sides in pixels "
                f"for scale_range to multiply: the training images of {run.dataset.name} have "
                "unequal sizes"
            )
        first = min((run.dataset.prepared / "images" / "train").iterdir())
        with Image.open(first) as image:
            size = image.size
    width, height = (round(side * run.study.file.image_scale) for side in size)
    return width, height
