"""The model's config: what is trained, and what is evaluated, the bare model as a rule."""

from __future__ import annotations

import copy
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmseg.utils import register_all_modules

from pipelines.base.errors import PipelineError
from pipelines.study import Run, made, params_file
from pipelines.study.evaluation import Evaluation
from pipelines.study.model_entry import ModelEntry
from pipelines.study.own_code import config_files, own_config, own_modules
from sar.packaged import mmseg_configs
from sar.support import RECLASSIFIED, UnsupportedModelError, find_class

_VOID_KEYS = ("ignore_index", "ignore_label")
"""What the parts of mmsegmentation call the label of void."""


def baseline_model(run: Run) -> ConfigDict:
    """The model's config without any plug-in: what is trained as baseline, and what is evaluated
    of most methods, see `evaluated_model`.

    Starts from the model entry's config; sets the data
    set's number of classes in every head, and its id of void in every head and loss. It starts from
    random weights: published ones are loaded by `train.options.pretrained`, never by the config's
    own means, which would unpickle whatever they download.

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
    _set_void(model, run.dataset.card.ignore_index)
    crop = run.training.augmentation.crop_size
    model["data_preprocessor"].update(
        seg_pad_val=run.dataset.card.ignore_index,
        **({"size": tuple(crop)} if crop else {"size": None, "size_divisor": 1}),
    )
    model["test_cfg"] = test_cfg(run.evaluation)
    return model


def entry_config(name: str, entry: ModelEntry) -> Config:
    """The config that a model entry starts from, of the project or of the installed mmsegmentation,
    changed as it says; the entry's own modules are imported.

    Raises:
        PipelineError: when there is no such config, or a file of the user's cannot be run.
    """
    where = params_file("models", name)
    config_files(entry)
    for module, file in own_modules(entry).items():
        _import(where, module, file)
    path = own_config(entry) or mmseg_configs() / entry.config
    if not path.is_file():
        raise PipelineError(
            f"{where}: config: neither the project nor the installed mmsegmentation (below "
            f".mim/configs) has a file {entry.config!r}"
        )
    try:
        config = Config.fromfile(path)
    except Exception as error:  # It is a program: anything.
        raise PipelineError(
            f"{where}: config: {path}: not read as a config: {type(error).__name__}: {error}"
        ) from error
    if "model" not in config:
        raise PipelineError(f"{where}: config: {path} has no `model = dict(...)`")
    # A copy, since merging takes `_delete_` out of what it merges.
    config.merge_from_dict({"model": copy.deepcopy(entry.model)})
    return config


def _import(where: Path, module: str, file: Path) -> None:
    """Run a Python file of the project as the module that others of its files know it by."""
    if str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.append(str(Path.cwd()))
    importlib.invalidate_caches()
    try:
        found = importlib.import_module(module)
    except Exception as error:  # It is a program: anything.
        raise PipelineError(
            f"{where}: custom_imports: {file}: fails when it is imported: "
            f"{type(error).__name__}: {error}"
        ) from error
    origin = getattr(found, "__file__", None)
    if origin is None or Path(origin).resolve() != file.resolve():
        raise PipelineError(
            f"{where}: custom_imports: {file}: Python imports {origin} as {module}; expected "
            "another name for the file"
        )


def test_cfg(evaluation: Evaluation) -> dict[str, Any]:
    """mmseg's name for how an image is predicted: at once, or in windows."""
    if evaluation.crop_size is None or evaluation.stride is None:
        return {"mode": "whole"}
    return {
        "mode": "slide",
        "crop_size": tuple(evaluation.crop_size),
        "stride": tuple(evaluation.stride),
    }


def trained_model(run: Run, data: dict[str, Any] | None = None) -> ConfigDict:
    """The model's config with the method's plug-in applied.

    Args:
        data: what a plug-in that asks for `data` is given; without it, what prepare counted.

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
        return plugin(model, **run.spec.options, **_asked(plugin, run, data))
    except (TypeError, ValueError) as error:
        raise PipelineError(
            f"{where}: {run.spec.plugin} refuses model {run.model!r} with options "
            f"{run.spec.options}: {error}"
        ) from error


def evaluated_model(run: Run, trained: Mapping[str, Any]) -> ConfigDict:
    """The model's config for inference: the bare model's, with whatever method it was trained. But
    one that takes the classifier's place (`sar.classifier`) predicts, too.

    Args:
        trained: the model's config that the training had. Only where it says so is the method's
            module imported.

    Raises:
        PipelineError: as `trained_model`.
    """
    return trained_model(run) if trained["type"] == RECLASSIFIED else baseline_model(run)


def needs_edges(node: Any) -> bool:
    """Whether a loss of a model's config compares with a map of the labels' edges."""
    if isinstance(node, dict):
        return node.get("type") == "BoundaryLoss" or any(map(needs_edges, node.values()))
    return isinstance(node, list | tuple) and any(map(needs_edges, node))


def _asked(plugin: Callable[..., Any], run: Run, data: dict[str, Any] | None) -> dict[str, Any]:
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
        asked["data"] = _training_set(run) if data is None else data
    return asked


def _training_set(run: Run) -> dict[str, Any]:
    info = made.info(run.dataset)
    if "image_count" not in info:
        raise PipelineError(
            f"{run.dataset.info}: image_count: not there, since an earlier version prepared this "
            f"data; {run.dataset.again('prepare')}"
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


def _set_void(node: Any, ignore_index: int) -> None:
    """Tell every part of a model's config that asks which label is void.

    What does not name it has 255 by mmsegmentation's defaults: a config is left as it is, where
    that is the data set's. A loss that names another label, as one to leave out, keeps it; a head's
    is that of the data set it was made for.
    """
    if isinstance(node, dict):
        asked = set(_VOID_KEYS) & node.keys()
        if ignore_index != 255:
            asked |= _void_arguments(node.get("type"))
        for key in sorted(asked):
            if "num_classes" in node or node.get(key, 255) == 255:
                node[key] = ignore_index
        for value in node.values():
            _set_void(value, ignore_index)
    elif isinstance(node, list | tuple):
        for value in node:
            _set_void(value, ignore_index)


def _void_arguments(kind: Any) -> set[str]:
    """By what name the constructor of a registered class, or of its base, takes the label of void.

    What is no class of a model takes none; what is wrong with a name, the building of the model
    says.
    """
    register_all_modules(init_default_scope=False)
    try:
        bases = find_class(kind, "model").__mro__
    except UnsupportedModelError:
        return set()
    own = [inspect.signature(vars(base)["__init__"]) for base in bases if "__init__" in vars(base)]
    return {name for signature in own for name in signature.parameters} & set(_VOID_KEYS)


def _set_num_classes(node: Any, num_classes: int) -> None:
    if isinstance(node, dict):
        if "num_classes" in node:
            node["num_classes"] = num_classes
        for value in node.values():
            _set_num_classes(value, num_classes)
    elif isinstance(node, list | tuple):
        for value in node:
            _set_num_classes(value, num_classes)
