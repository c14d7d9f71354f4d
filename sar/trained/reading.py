"""Read a trained model from whatever file has one.

- What `sar import` wrote: the file is enough.
- ``weights.safetensors`` as the pipeline publishes it, or the folder that holds it: the
  ``config.py`` beside it is read, or another.
- A checkpoint of mmsegmentation 0.x (the released code's too) or 1.x: with a config of 1.x.

A checkpoint's names and shapes have to be those of the model that the config builds; what differs
is listed by the part of the model. The number of classes is the checkpoint's.
"""

from __future__ import annotations

import ast
import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from sar.checkpoints import (
    PREFIX,
    check_finite,
    import_regularizer_state,
    load_released,
    released_names,
    sort_released,
    state_of,
)
from sar.errors import SarError
from sar.trained.bundle import KEY, Bundle, build_bare, read_tensors, unpack
from sar.trained.configs import ModelConfig, heads, read_config

_PARTS = {
    "backbone": ("backbone.",),
    "decode head": ("decode_head.",),
    "auxiliary head": ("auxiliary_head.",),
    "regularizer": (PREFIX, "projecter", "random_center", "momentum_center_feat", "update_flag"),
}
"""Parts of a model, and what the names of their weights begin with; all else is "other"."""

WEIGHTS = "weights.safetensors"
"""In the folder of a run's training."""

_LISTED = 12
"""Names of one kind and part that a message lists before it only counts."""


def read_trained(
    path: str | Path,
    config: str | Path | ModelConfig | None = None,
    *,
    trust_code: bool = False,
) -> Bundle:
    """Read the trained model at ``path``.

    Args:
        config: a config file of mmsegmentation 1.x, or what was read of one; None for a file that
            needs none.
        trust_code: whether Python code that came with a run's config may be run.

    Raises:
        SarError: when the file cannot be read, does not fit the config, or holds a number that is
            NaN or infinite, or when the config comes with code that is not trusted.
    """
    path = _file(Path(path))
    if path.suffix == ".safetensors":
        tensors, header = read_tensors(path)
        if KEY in header:
            if config is not None:
                raise SarError(f"{path}: holds its own config; expected no other")
            check_finite(tensors, path)
            return unpack(tensors, header, path)
        beside = path.with_name("config.py")
        if config is None and not beside.is_file():
            raise SarError(f"{path}: expected a config beside it, {beside}, or a given one")
        config = beside if config is None else config
        plugin = path.with_name("plugin.safetensors")
        if plugin.is_file():
            of_plugin = read_tensors(plugin)[0]
            check_finite(of_plugin, plugin)
            tensors |= of_plugin
        meta: Mapping[str, Any] = {}
    else:
        checkpoint = load_released(path)
        meta, tensors = checkpoint.get("meta") or {}, state_of(checkpoint)
        if config is None:
            raise SarError(
                f"{path}: expected a config of mmsegmentation 1.x with it, since a checkpoint "
                "holds weights only"
            )
    check_finite(tensors, path)
    if not isinstance(config, ModelConfig):
        config = read_config(config)
    return _assemble(path, tensors, meta, config, trust_code)


def _file(path: Path) -> Path:
    """The file with the weights: itself, or the one in the folder of a run's training."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise SarError(f"{path}: no such file or folder")
    file = path / WEIGHTS
    if not file.is_file():
        inner = path / "train" / WEIGHTS
        hint = f"; it is in {inner.parent}" if inner.is_file() else ""
        raise SarError(
            f"{path}: no {WEIGHTS} in this folder; expected one of a run's training{hint}"
        )
    return file


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def part_of(name: str) -> str:
    """The part of the model that a weight belongs to."""
    for part, beginnings in _PARTS.items():
        if name.startswith(beginnings):
            return part
    return "other"


def _assemble(
    path: Path,
    state: dict[str, Tensor],
    meta: Mapping[str, Any],
    config: ModelConfig,
    trust_code: bool,
) -> Bundle:
    weights, released, idle = sort_released(state)
    ours = {name: value for name, value in weights.items() if name.startswith(PREFIX)}
    weights = {name: value for name, value in weights.items() if name not in ours}
    notes = [f"passed over, as they decide nothing: {', '.join(idle)}"] if idle else []
    model = copy.deepcopy(config.model)
    notes += _set_classes(model, weights)
    notes += _set_normalisation(model, meta, path, config.origin)
    built = build_bare(model, config.imports, config.code, trust_code=trust_code)
    problems = [
        *_differences(weights, built.state_dict()),
        *_gaps("regularizer", *released_names(released)),
    ]
    if problems:
        lines = "\n  ".join(problems)
        raise SarError(f"{path} does not fit {config.origin}\n  {lines}")
    if released:
        ours = {PREFIX + k: v for k, v in import_regularizer_state(released).items()}
    count = getattr(built, "num_classes", None)
    if count is None:
        raise SarError(f"{config.origin}: {model['type']} does not classify pixels")
    classes, palette = _classes(meta, config, count, path)
    if classes is None:
        classes = [f"class {index}" for index in range(count)]
        notes.append("neither the checkpoint nor the config names the classes")
    _check_anchors(ours, count, path)
    recorded = {key: str(meta[key]) for key in ("mmseg_version", "iter") if key in meta}
    return Bundle(
        model=model,
        weights={name: weights[name] for name in sorted(weights)},
        classes=classes,
        palette=palette,
        regularizer=ours,
        image_steps=config.image_steps,
        imports=config.imports,
        code=config.code,
        source={"file": path.name, "sha256": sha256(path), **recorded},
        notes=notes,
    )


def _set_classes(model: dict[str, Any], weights: Mapping[str, Tensor]) -> list[str]:
    """Give each head of a config the number of classes that its weights have."""
    notes = []
    for name, head in heads(model):
        classifier = weights.get(f"{name}.conv_seg.weight")
        if classifier is None or head.get("out_channels") is not None:
            continue
        count = len(classifier)
        if head.get("num_classes") != count:
            notes.append(
                f"{name}: {count} classes, as in the checkpoint; the config has "
                f"{head.get('num_classes')}"
            )
            head["num_classes"] = count
    return notes


def _set_normalisation(
    model: dict[str, Any], meta: Mapping[str, Any], path: Path, origin: str
) -> list[str]:
    """Give the config the mean and standard deviation of mmsegmentation 0.x, if it has none.

    In 0.x the images' normalisation stood in the data pipeline, in 1.x it is the model's.
    """
    old = _img_norm_cfg(meta.get("config"))
    new = dict(model.get("data_preprocessor") or {"type": "SegDataPreProcessor"})
    model["data_preprocessor"] = new
    if old is None and new.get("mean") is None:
        return ["no normalisation of images in the config or the checkpoint: fed as they are"]
    if old is None:
        return []
    if new.get("mean") is None:
        new |= {"mean": old["mean"], "std": old["std"], "bgr_to_rgb": old["to_rgb"]}
        return ["normalisation of images: from the checkpoint's own config"]
    found = (new["mean"], new["std"], bool(new.get("bgr_to_rgb")))
    trained = (old["mean"], old["std"], bool(old["to_rgb"]))
    if [*map(_numbers, found)] != [*map(_numbers, trained)]:
        raise SarError(
            f"{path}: trained with images of mean {trained[0]}, std {trained[1]}, to_rgb "
            f"{trained[2]}; {origin}: data_preprocessor has {found[0]}, {found[1]}, {found[2]}"
        )
    return []


def _numbers(value: Any) -> Any:
    return [round(float(each), 3) for each in value] if isinstance(value, list | tuple) else value


def _img_norm_cfg(text: Any) -> dict[str, Any] | None:
    """``img_norm_cfg`` of a config's text as mmsegmentation 0.x keeps it; parsed, not run."""
    if not isinstance(text, str):
        return None
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return None  # A config in YAML or JSON, or none.
    for node in tree.body:
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
            continue
        if [getattr(target, "id", None) for target in node.targets] != ["img_norm_cfg"]:
            continue
        try:
            values = {
                each.arg: ast.literal_eval(each.value)
                for each in node.value.keywords
                if each.arg is not None
            }
        except ValueError:
            return None  # Computed, not written down.
        if {"mean", "std"} <= values.keys():
            return {"to_rgb": True, **values}
    return None


def _differences(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Iterator[str]:
    """What keeps a state dict from being loaded, a line a kind and part of the model."""
    shapes = [
        f"{name} {tuple(found[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in expected
        if name in found and found[name].shape != expected[name].shape
    ]
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    for part in (*_PARTS, "other"):
        yield from _gaps(
            part,
            [name for name in missing if part_of(name) == part],
            [name for name in unexpected if part_of(name) == part],
            [line for line in shapes if part_of(line) == part],
        )


def _gaps(
    part: str, missing: Sequence[str], unexpected: Sequence[str], shapes: Sequence[str] = ()
) -> Iterator[str]:
    for kind, names in (
        ("missing", missing),
        ("unexpected", unexpected),
        ("of another shape", shapes),
    ):
        if names:
            more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
            yield f"{part}: {len(names)} {kind}: {', '.join(names[:_LISTED])}{more}"


def _classes(
    meta: Mapping[str, Any], config: ModelConfig, count: int, path: Path
) -> tuple[list[str] | None, list[list[int]] | None]:
    """Names and colours: those that the checkpoint has, else the config's."""
    kept = meta.get("dataset_meta") or {}
    names = kept.get("classes", meta.get("CLASSES"))
    colours = kept.get("palette", meta.get("PALETTE"))
    where = str(path)
    if names is None:
        names, where = config.classes, config.origin
        colours = config.palette if colours is None else colours
    if names is None:
        return None, None
    if len(names) != count:
        raise SarError(f"{where}: names {len(names)} classes, and the model tells {count} apart")
    if colours is not None and len(colours) != count:
        raise SarError(f"{where}: has {len(colours)} colours for {count} classes")
    plain = None if colours is None else [[int(value) for value in each] for each in colours]
    return [str(name) for name in names], plain


def _check_anchors(regularizer: Mapping[str, Tensor], count: int, path: Path) -> None:
    anchors = regularizer.get(f"{PREFIX}anchors")
    if anchors is not None and len(anchors) != count:
        raise SarError(
            f"{path}: its regularizer has anchors of {len(anchors)} classes, and the model tells "
            f"{count} apart"
        )
