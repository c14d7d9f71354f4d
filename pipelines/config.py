"""From a run of a study to the mmengine config that trains it, and the model that is evaluated."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mmseg
from mmengine.config import Config, ConfigDict
from mmengine.device import is_cuda_available

from pipelines.artifacts import read_json
from pipelines.code import of_entry
from pipelines.errors import PipelineError
from pipelines.schema import Evaluation, ModelEntry, Optimizer, Training
from pipelines.study import Run, params_file

if TYPE_CHECKING:
    from pipelines.checkpoint import CheckpointTest

MMSEG_CONFIGS = Path(mmseg.__file__).parent / ".mim" / "configs"


def baseline_model(run: Run) -> ConfigDict:
    """The model's config without any plug-in: what is trained as baseline and always evaluated.

    Starts from the model entry's config of the installed mmsegmentation package; sets the data
    set's number of classes in every head. It starts from random weights: published ones are loaded
    by `pipelines.pretrained`, never by the config's own means, which would unpickle whatever they
    download.

    Raises:
        PipelineError: when that package has no such config, or the config starts from published
            weights and neither the entry nor the study says what to do about them.
    """
    model = entry_config(run.model, run.entry).model
    named = _without_weights(model)
    said = "pretrained" in run.entry.model_fields_set or run.study.file.from_scratch
    if named and not said:
        raise PipelineError(
            f"{params_file('models', run.model)}: pretrained: not given, and its config starts "
            f"from {named[0]}; expected the file, urls and sha256 of published weights, or null "
            f"for random ones (or from_scratch: true in {run.study.path})"
        )
    _set_num_classes(model, len(run.dataset.card.classes))
    crop = run.training.augmentation.crop_size
    model["data_preprocessor"].update(
        seg_pad_val=run.dataset.card.ignore_index,
        **({"size": tuple(crop)} if crop else {"size": None, "size_divisor": 1}),
    )
    model["test_cfg"] = test_cfg(run.evaluation)
    return model


def entry_config(name: str, entry: ModelEntry) -> Config:
    """The config of the installed mmsegmentation package that a model entry starts from, changed
    as it says.

    Raises:
        PipelineError: when that package has no such config.
    """
    path = MMSEG_CONFIGS / entry.config
    if not path.is_file():
        raise PipelineError(
            f"{params_file('models', name)}: config: the installed mmsegmentation has no "
            f"{entry.config!r} below .mim/configs"
        )
    config = Config.fromfile(path)
    # A copy, since merging takes `_delete_` out of what it merges.
    config.merge_from_dict({"model": copy.deepcopy(entry.model)})
    return config


def test_cfg(evaluation: Evaluation) -> dict[str, Any]:
    """mmseg's name for how an image is predicted: at once, or in windows."""
    if evaluation.mode == "whole":
        return {"mode": "whole"}
    return {
        "mode": "slide",
        "crop_size": tuple(evaluation.crop_size),
        "stride": tuple(evaluation.stride),
    }


def trained_model(run: Run) -> ConfigDict:
    """The model's config with the method's plug-in applied.

    Raises:
        PipelineError: when the plug-in cannot be imported or refuses the model or an option.
    """
    model = baseline_model(run)
    if run.spec.plugin is None:
        return model
    where = f"{run.study.path}: methods.{run.method}.plugin"
    module, function = run.spec.plugin.split(":")
    try:
        plugin = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise PipelineError(f"{where}: cannot import {run.spec.plugin!r}: {error}") from error
    try:
        return plugin(model, **run.spec.options)
    except (TypeError, ValueError) as error:
        raise PipelineError(
            f"{where}: {run.spec.plugin} refuses model {run.model!r} with options "
            f"{run.spec.options}: {error}"
        ) from error


def training_config(run: Run, work_dir: Path) -> Config:
    """The complete config of a training, for mmengine's Runner.

    The processes of the study share each batch: mmengine's sampler deals the images of a batch of
    one process out to them, and DDP averages their gradients.
    """
    training, processes, entry = run.training, run.study.file.processes, run.entry
    batch = training.batch_size // processes
    plugin_modules = [run.spec.plugin.split(":")[0]] if run.spec.plugin else []
    entry_modules = [f"pipelines.{path.stem}" for path in of_entry(run)]
    validated = training.validation_interval is not None
    config = {
        "default_scope": "mmseg",
        "custom_imports": {
            "imports": ["pipelines.hooks", *entry_modules, *plugin_modules],
            "allow_failed_imports": False,
        },
        "experiment_name": run.name,
        "model": trained_model(run),
        "work_dir": work_dir.as_posix(),
        "resume": True,
        "randomness": {"seed": run.seed},
        "env_cfg": {"cudnn_benchmark": False, "mp_cfg": {"opencv_num_threads": 0}},
        "train_dataloader": dataloader(run, "train", batch, training_pipeline(run)),
        "train_cfg": {
            **_loop(entry),
            "max_iters": training.iterations,
            "val_interval": training.validation_interval or training.iterations,
        },
        "optim_wrapper": optim_wrapper(run),
        "param_scheduler": _schedule(run),
        "default_hooks": {
            "logger": {
                "type": "LoggerHook",
                "interval": training.log_interval,
                "log_metric_by_epoch": False,
            },
            "checkpoint": {
                "type": "CheckpointHook",
                "by_epoch": False,
                "interval": training.checkpoint_interval,
                "max_keep_ckpts": 2,
            },
        },
        "custom_hooks": [
            *([{"type": "ChannelsLastHook"}] if entry.channels_last else []),
            *(
                [{"type": "PretrainedBackboneHook", "file": run.weights.backbone.as_posix()}]
                if run.weights
                else []
            ),
            *([{"type": "CompileHook"}] if entry.compile else []),
            {"type": "DiagnosticsHook", "interval": _diagnostics_interval(training)},
            {"type": "ReseedHook", "seed": run.seed, "priority": "VERY_LOW"},
            *([{"type": "MeanOfRanksHook"}] if processes > 1 else []),
        ],
        "log_processor": {"by_epoch": False},
        "visualizer": {
            "type": "Visualizer",
            "vis_backends": [{"type": "LocalVisBackend"}],
        },
    }
    if processes > 1:
        config["launcher"] = "pytorch"
    if validated:
        config["val_dataloader"] = dataloader(run, "val", batch, evaluation_pipeline(run))
        config["val_cfg"] = {"type": "ValLoop"}
        config["val_evaluator"] = {
            "type": "IoUMetric",
            "iou_metrics": ["mIoU"],
            "ignore_index": run.dataset.card.ignore_index,
        }
    elif run.evaluation.base_size is not None:
        # Nothing here uses it; it tells who predicts with the weights how to feed the model.
        config["test_pipeline"] = evaluation_pipeline(run)
    return Config(config)


def _loop(entry: ModelEntry) -> dict[str, Any]:
    if entry.accumulate == 1:
        return {"type": "IterBasedTrainLoop"}
    return {"type": "AccumulatingTrainLoop", "parts": entry.accumulate}


def optim_wrapper(run: Run) -> dict[str, Any]:
    """Config of a training's optimizer, in the wrapper that computes in the entry's precision.

    Raises:
        PipelineError: for fp16 without a GPU.
    """
    entry = run.entry
    parts = {"accumulative_counts": entry.accumulate} if entry.accumulate > 1 else {}
    parts |= _optimizer(run.training.optimizer)
    if entry.precision == "float32":
        return {"type": "OptimWrapper"} | parts
    if entry.precision == "bf16":
        return {"type": "BFloat16OptimWrapper"} | parts
    if not is_cuda_available():
        raise PipelineError(
            f"{params_file('models', run.model)}: precision: fp16 needs a GPU, and there is none; "
            "expected bf16 or float32"
        )
    return {"type": "AmpOptimWrapper", "dtype": "float16", "loss_scale": "dynamic"} | parts


def dataloader(
    run: Run | CheckpointTest, split: str, batch_size: int, pipeline: list[dict]
) -> dict[str, Any]:
    """Config of a loader over a prepared split; shuffled without end for `train`.

    It loads in the main process: worker processes would compete with runs that share the machine.
    Outside training, images of unequal sizes cannot form a batch: they come one by one.
    """
    info = read_json(run.dataset.info)
    if split != "train" and split in info.get("unequal_sizes", []):
        batch_size = 1
    sampler = "InfiniteSampler" if split == "train" else "DefaultSampler"
    suffixes = sorted(info.get("suffixes", {}).get(split, [".png"]))
    datasets = [_dataset(run, split, suffix, pipeline) for suffix in suffixes]
    return {
        "batch_size": batch_size,
        "num_workers": 0,
        "sampler": {"type": sampler, "shuffle": split == "train"},
        "dataset": datasets[0]
        if len(datasets) == 1
        else {"type": "ConcatDataset", "datasets": datasets},
    }


def _dataset(
    run: Run | CheckpointTest, split: str, suffix: str, pipeline: list[dict]
) -> dict[str, Any]:
    """Config of those images of a prepared split whose files end in `suffix`."""
    card = run.dataset.card
    return {
        "type": "BaseSegDataset",
        "data_root": run.dataset.prepared.as_posix(),
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
                "cat_max_ratio": 0.75,
                "ignore_index": card.ignore_index,
            }
        )
    if augmentation.flip:
        steps.append({"type": "RandomFlip", "prob": augmentation.flip})
    if augmentation.photometric:
        steps.append({"type": "PhotoMetricDistortion"})
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

    size = run.training.augmentation.base_size
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


def _diagnostics_interval(training: Training) -> int:
    """That of the log, or longer: about 200 records of a long training are enough to draw it."""
    logs = -(-training.iterations // training.log_interval)
    return training.log_interval * max(1, -(-logs // 200))


def _optimizer(optimizer: Optimizer) -> dict[str, Any]:
    # Fused updates are a tenth of a small model's step on a CPU, and the same on a GPU.
    settings = optimizer.model_dump(exclude_none=True, exclude={"custom_keys"}) | {"fused": True}
    if optimizer.custom_keys is None:
        return {"optimizer": settings}
    multipliers = {name: value.model_dump() for name, value in optimizer.custom_keys.items()}
    return {"optimizer": settings, "paramwise_cfg": {"custom_keys": multipliers}}


def _schedule(run: Run) -> list[dict[str, Any]]:
    schedule, iterations = run.training.schedule, run.training.iterations
    decay = {
        "type": "PolyLR",
        "power": schedule.power,
        "eta_min": schedule.min_lr,
        "begin": schedule.warmup_iterations,
        "end": iterations,
        "by_epoch": False,
    }
    if not schedule.warmup_iterations:
        return [decay]
    warmup = {
        "type": "LinearLR",
        "start_factor": 1.0 / schedule.warmup_iterations,
        "begin": 0,
        "end": schedule.warmup_iterations,
        "by_epoch": False,
    }
    return [warmup, decay]


def _without_weights(node: Any) -> list[str]:
    """Remove from a model's config what would load published weights; returns what that was."""
    found = []
    if isinstance(node, dict):
        if node.get("pretrained") is not None:
            found.append(repr(node["pretrained"]))
            node["pretrained"] = None
        init = node.get("init_cfg")
        inits = init if isinstance(init, list) else [init]
        loading = [each for each in inits if each and each.get("type") == "Pretrained"]
        if loading:
            found += [repr(each.get("checkpoint")) for each in loading]
            node["init_cfg"] = [each for each in inits if each not in loading] or None
        for value in node.values():
            found += _without_weights(value)
    elif isinstance(node, list | tuple):
        for value in node:
            found += _without_weights(value)
    return found


def _set_num_classes(node: Any, num_classes: int) -> None:
    if isinstance(node, dict):
        if "num_classes" in node:
            node["num_classes"] = num_classes
        for value in node.values():
            _set_num_classes(value, num_classes)
    elif isinstance(node, list | tuple):
        for value in node:
            _set_num_classes(value, num_classes)
