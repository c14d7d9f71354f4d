"""The model's config: what is trained, and the bare model that is evaluated."""

from __future__ import annotations

import copy
import importlib
import inspect
from collections.abc import Callable
from typing import Any

from mmengine.config import Config, ConfigDict

from pipelines.base.artifacts import read_json
from pipelines.base.errors import PipelineError
from pipelines.study import Run, params_file
from pipelines.study.evaluation import Evaluation
from pipelines.study.model_entry import ModelEntry
from sar.packaged import mmseg_configs


def baseline_model(run: Run) -> ConfigDict:
    """The model's config without any plug-in: what is trained as baseline and always evaluated.

    Starts from the model entry's config of the installed mmsegmentation package; sets the data
    set's number of classes in every head. It starts from random weights: published ones are loaded
    by `train.options.pretrained`, never by the config's own means, which would unpickle whatever
    they download.

    Raises:
        PipelineError: when that package has no such config, or the config starts from published
            weights and neither the entry nor the study says what to do about them.
    """
    model = entry_config(run.model, run.entry).model
    published = _without_weights(model)
    decided = "pretrained" in run.entry.model_fields_set or run.study.file.from_scratch
    if published and not decided:
        raise PipelineError(
            f"{params_file('models', run.model)}: pretrained: not given, and its config starts "
            f"from {published[0]}; expected the file, urls and sha256 of published weights, or "
            f"null for random ones (or from_scratch: true in {run.study.path})"
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
    path = mmseg_configs() / entry.config
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
    if evaluation.crop_size is None or evaluation.stride is None:
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
        return plugin(model, **run.spec.options, **_asked(plugin, run))
    except (TypeError, ValueError) as error:
        raise PipelineError(
            f"{where}: {run.spec.plugin} refuses model {run.model!r} with options "
            f"{run.spec.options}: {error}"
        ) from error


def _asked(plugin: Callable[..., Any], run: Run) -> dict[str, Any]:
    """What a plug-in asks for by the names of its parameters, unless the study gives it.

    `iterations` is the length of the training; `data` is what prepare counted in the training set,
    in the order of the classes: `pixel_share` of the labelled pixels and `image_count`, lists of a
    number a class, `num_images` and `num_pixels` in all.
    """
    names = inspect.signature(plugin).parameters.keys() - run.spec.options.keys()
    asked: dict[str, Any] = {}
    if "iterations" in names:
        asked["iterations"] = run.training.iterations
    if "data" in names:
        asked["data"] = _training_set(run)
    return asked


def _training_set(run: Run) -> dict[str, Any]:
    info = read_json(run.dataset.info)
    if "image_count" not in info:
        raise PipelineError(
            f"{run.dataset.info}: image_count: not there, since an earlier version prepared this "
            f"data; run python -m pipelines.prepare --dataset {run.dataset.name}"
        )
    classes = run.dataset.card.classes
    return {
        **{key: [info[key][name] for name in classes] for key in ("pixel_share", "image_count")},
        "num_images": info["counts"]["train"],
        "num_pixels": info["labelled_pixels"],
    }


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
