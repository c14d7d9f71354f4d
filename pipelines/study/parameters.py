"""The files below `params/`, read and validated."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import ValidationError

from pipelines.base.artifacts import sha256_json
from pipelines.base.errors import PipelineError
from pipelines.study.places import PARAMS
from pipelines.study.strict import Strict
from pipelines.study.yaml_files import read_yaml, shown

_Model = TypeVar("_Model", bound=Strict)


def params_file(kind: str, name: str) -> Path:
    """The file of a study, data set or model; `kind` is the folder: studies, datasets, models."""
    return PARAMS / kind / f"{name}.yaml"


def params_names(kind: str) -> list[str]:
    """What there is in a folder of parameter files: studies, datasets or models."""
    return [path.stem for path in sorted((PARAMS / kind).glob("*.yaml")) if path.stem != "dvc"]


def read_params(path: Path, model: type[_Model], variant: str | None = None) -> _Model:
    """The file at `path` as `model`, with the keys of its `variant` merged in.

    Raises:
        PipelineError: naming the file, each offending key and what was expected.
    """
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml") if p.stem != "dvc"))
        raise PipelineError(f"{path}: no such file; {path.parent} has: {known or 'none'}")
    content = read_yaml(path)
    read = validated(path, model, content)
    if variant is None:
        return read
    variants = content.get("variants", {})
    if variant not in variants:
        known = ", ".join(variants) or "none"
        raise PipelineError(f"{path}: variants: unknown {variant!r}; it has: {known}")
    return validated(f"{path}@{variant}", model, merge(content, variants[variant]))


def validated(where: Path | str, model: type[_Model], content: Any) -> _Model:
    """`content` as `model`; a PipelineError tells all mistakes, each beginning with `where`."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = []
        for item in error.errors(include_url=False):
            key = ".".join(map(str, item["loc"])) or "(top level)"
            got = "" if isinstance(item["input"], dict) else f" (got {shown(item['input'])})"
            lines.append(f"{where}: {key}: {item['msg'].removeprefix('Value error, ')}{got}")
        raise PipelineError("\n".join(lines)) from None


def read_named(study: Path, key: str, name: str, model: type[_Model]) -> _Model:
    """The file of the data set or model `name`, which `key` of the file `study` names."""
    path = params_file(key, name)
    if not path.is_file():
        known = ", ".join(params_names(key)) or "none"
        raise PipelineError(f"{study}: {key}: unknown {name!r}; {path.parent} has: {known}")
    return read_params(path, model)


def merge(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `overrides`, mapping by mapping."""
    merged = copy.deepcopy(base)
    for key, value in overrides.items():
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            value = merge(old, value)
        merged[key] = value
    return merged


class _Subject(Protocol):
    def parameters(self, stage: str, *, defaults: bool = True) -> dict[str, Any]: ...


def hash_of(subject: _Subject, stage: str) -> str:
    """What a stage's outputs are known by.

    A value counts only where it differs from its default: a setting that is added to the schema
    leaves all finished work valid. So a default, once released, never changes its meaning.
    """
    return sha256_json(subject.parameters(stage, defaults=False))
