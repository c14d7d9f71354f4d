"""What a config file of mmsegmentation 1.x says of a trained model: how to build and to feed it.

A config file in Python is a program, and reading it runs it, as everywhere in mmengine.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sar.errors import SarError
from sar.extras import need
from sar.packaged import mmseg_configs
from sar.trained.code import checked

if TYPE_CHECKING:
    from mmengine.config import Config

_NOT_BEFORE_THE_MODEL = ("Load", "Pack", "Concat")
"""Beginnings of the types of steps that read an image or its labels, or pack them."""

_FOR_TRAINING = ("sar", "pipelines")
"""Packages of this project: what a config imports of them, hooks and plug-ins, trains."""


@dataclass(frozen=True)
class ModelConfig:
    """Of a config, what inference needs, as plain Python values."""

    origin: str
    """The file, for messages."""
    model: dict[str, Any]
    """Of the bare model: no plug-in, and no weights to start from."""
    image_steps: list[dict[str, Any]] = field(default_factory=list)
    """The transforms, such as a resize, of an image on its way to the model at inference."""
    classes: list[str] | None = None
    palette: list[list[int]] | None = None
    """(r, g, b) by class."""
    imports: list[str] = field(default_factory=list)
    """Modules that register what the model is made of."""
    code: dict[str, str] = field(default_factory=dict)
    """Texts of Python files that are some of these modules, by their paths."""


def read_config(name: str | Path) -> ModelConfig:
    """Read a config file.

    Args:
        name: a path, or one below ``.mim/configs`` of the installed mmsegmentation.

    Raises:
        SarError: when there is no such file, or it is no config of a segmentor.
    """
    need("mmseg", "mmengine", why=f"{name}: a config of mmsegmentation")

    from mmengine.config import Config
    from mmengine.utils import import_modules_from_strings

    path = _find(str(name))
    try:
        config = Config.fromfile(path, import_custom_modules=False)
        if "custom_imports" in config and "custom_code" not in config:
            import_modules_from_strings(**config.custom_imports)
    except Exception as error:  # It is a program: anything.
        raise SarError(f"{path}: not read as a config: {type(error).__name__}: {error}") from error
    return from_config(config, str(path))


def from_config(config: Config, origin: str) -> ModelConfig:
    """Take from a config that is read already what inference needs; see `read_config`."""
    values = config.to_dict()
    model = values.get("model")
    if not isinstance(model, dict) or "type" not in model:
        raise SarError(f"{origin}: expected a config with model = dict(type=...)")
    classes, palette = _names_and_colours(values)
    return ModelConfig(
        origin,
        _without_init(_bare(model)),
        list(_image_steps(values)),
        classes,
        palette,
        _imports(values),
        checked(values.get("custom_code") or {}, f"{origin}: custom_code"),
    )


def heads(model: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The configs of all heads of a model, each with what its weights' names begin with."""
    for name in ("decode_head", "auxiliary_head"):
        head = model.get(name)
        if isinstance(head, dict):
            yield name, head
        elif isinstance(head, list | tuple):
            yield from ((f"{name}.{index}", each) for index, each in enumerate(head))


def _find(name: str) -> Path:
    if "::" in name:
        # mmengine would install the unmaintained package over the maintained one.
        raise SarError(
            f"{name}: expected a path, or what stands after :: as a path below the installed "
            "mmsegmentation's .mim/configs"
        )
    for path in (Path(name), mmseg_configs() / name):
        if path.is_file():
            return path
    raise SarError(
        f"{name}: no such config file, neither here nor below .mim/configs of the installed "
        "mmsegmentation"
    )


def _bare(model: dict[str, Any]) -> dict[str, Any]:
    """The config without a method that acts in training alone."""
    if "base_type" not in model:
        return copy.deepcopy(model)
    from sar.mmseg import remove_sar

    return remove_sar(model)


def _without_init(node: Any) -> Any:
    """The config without the weights from which its training started."""
    if isinstance(node, dict):
        return {
            key: _without_init(value)
            for key, value in node.items()
            if key != "pretrained" and not (key == "init_cfg" and _loads_a_file(value))
        }
    if isinstance(node, list | tuple):
        return type(node)(_without_init(value) for value in node)
    return node


def _loads_a_file(init: Any) -> bool:
    each = init if isinstance(init, list | tuple) else [init]
    return any(isinstance(one, dict) and one.get("type") == "Pretrained" for one in each)


def _datasets(config: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The configs of the data sets, those of tests first, each with the name of its loader."""
    for loader in ("test_dataloader", "val_dataloader", "train_dataloader"):
        dataset = (config.get(loader) or {}).get("dataset") or {}
        while "pipeline" not in dataset and ("dataset" in dataset or dataset.get("datasets")):
            dataset = dataset["dataset"] if "dataset" in dataset else dataset["datasets"][0]
        if dataset:
            yield loader, dataset


def _image_steps(config: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    loader, dataset = next(_datasets(config), ("", {}))
    pipeline = dataset.get("pipeline", [])
    if config.get("test_pipeline"):
        # By this name mmsegmentation's own inference finds it.
        loader, pipeline = "", config["test_pipeline"]
    for step in pipeline:
        kind = str(step.get("type", "")).rpartition(".")[2]
        if loader == "train_dataloader":
            # Without a test there is the training; of its transforms, those without chance.
            if kind == "Resize":
                yield step
        elif not kind.startswith(_NOT_BEFORE_THE_MODEL):
            yield step


def _names_and_colours(
    config: Mapping[str, Any],
) -> tuple[list[str] | None, list[list[int]] | None]:
    """Of a data set's own ``metainfo``, or of its registered class."""
    from mmseg.registry import DATASETS

    from sar.packaged import register_mmseg

    for _, dataset in _datasets(config):
        metainfo = dataset.get("metainfo") or {}
        if "classes" not in metainfo:
            register_mmseg(init_default_scope=False)
            found = DATASETS.get(dataset.get("type", ""))
            metainfo = getattr(found, "METAINFO", {}) | metainfo
        if metainfo.get("classes"):
            palette = metainfo.get("palette")
            return (
                [str(name) for name in metainfo["classes"]],
                [list(map(int, colour)) for colour in palette] if palette else None,
            )
    return None, None


def _imports(config: Mapping[str, Any]) -> list[str]:
    names = (config.get("custom_imports") or {}).get("imports", [])
    names = [names] if isinstance(names, str) else names
    return [name for name in names if name.partition(".")[0] not in _FOR_TRAINING]
