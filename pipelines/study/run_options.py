"""What a run needs besides what every run does: modules of its options, and modules of others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipelines.study import own_code
from pipelines.study.study import Run

_OPTIONS = {
    "pretrained": "pipelines.train.options.pretrained",
    "precision": "pipelines.train.options.precision",
    "accumulate": "pipelines.train.options.accumulation",
}


def option_modules(run: Run) -> list[str]:
    """The modules that train `run` because a key of its model entry differs from its default."""
    given = run.entry.model_dump(exclude_defaults=True)
    if run.weights is None:
        given.pop("pretrained", None)
    return [module for key, module in _OPTIONS.items() if key in given]


def plugin_module(run: Run) -> str | None:
    """The module of the method's plug-in, `module:function` in the study."""
    return None if run.spec.plugin is None else run.spec.plugin.partition(":")[0]


def model_modules(run: Run) -> list[str]:
    """The modules of classes that the model entry names by their full path, `module.Class`, and
    those of the user's own files."""
    named = {name.rpartition(".")[0] for name in _types(run.entry.model) if "." in name}
    return sorted(named | own_code.own_modules(run.entry).keys())


def _types(node: Any) -> Iterator[str]:
    """All values of a key `type` in a config."""
    if isinstance(node, dict):
        if isinstance(node.get("type"), str):
            yield node["type"]
        for value in node.values():
            yield from _types(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _types(value)
