"""Read a YAML file whose values are plain: texts, numbers, lists and mappings.

YAML can say more than a parameter file means: dates, binary data and sets, an alias that stands for
a million values, numbers of thousands of digits. None of them gets as far as a model.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml import events as yaml_events
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import YAMLError

from pipelines.base.errors import PipelineError
from pipelines.base.reading import in_short, reading

_REMEDY = "mend the file"
_BYTES, _VALUES, _DEPTH, _DIGITS = 1_000_000, 30_000, 50, 30
_LEAVES = (str, bool, int, float, type(None))


class _Constructor(SafeConstructor):
    """Says where a value stands that is none, such as the 31st of February."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except YAMLError:
            raise
        except Exception as error:  # As for all parsers, see `reading`.
            raise ConstructorError(problem=str(error), problem_mark=node.start_mark) from error


def read_yaml(path: Path) -> Any:
    """The value in a file of YAML 1.2.

    Raises:
        PipelineError: naming the key, when the file is none, is larger than parameters are, or has
            a value that is not plain.
    """
    with reading(path, "YAML", _REMEDY):
        content = path.read_bytes()
        if len(content) > _BYTES:
            raise ValueError(f"{len(content)} bytes, expected at most {_BYTES}")
        _check_size(content)
        yaml = YAML(typ="safe", pure=True)
        yaml.Constructor = _Constructor
        value = yaml.load(content)
    _check_plain(path, value, "")
    return value


def shown(value: Any) -> str:
    """A value as a message shows it: however large it is, in few characters."""
    if isinstance(value, int) and value.bit_length() > 100:
        return f"an integer of {value.bit_length()} bits"
    return in_short(ValueError(repr(value)))


def _check_size(content: bytes) -> None:
    """Raise ValueError for more than `_VALUES` values, aliases expanded, or too deep nesting."""
    sizes = [0]  # Of the collections that are open at this place, outermost first.
    anchors: list[str | None] = []
    known: dict[str, int] = {}
    for event in YAML(typ="safe", pure=True).parse(content):
        if isinstance(event, yaml_events.CollectionStartEvent):
            sizes.append(1)
            anchors.append(event.anchor)
            if len(sizes) > _DEPTH:
                raise ValueError(f"nested more than {_DEPTH} deep")
            continue
        if isinstance(event, yaml_events.CollectionEndEvent):
            size, anchor = sizes.pop(), anchors.pop()
        elif isinstance(event, yaml_events.AliasEvent):
            if event.anchor in anchors:
                raise ValueError(f"*{event.anchor} holds itself")
            size, anchor = known.get(event.anchor, 1), None
        elif isinstance(event, yaml_events.ScalarEvent):
            size, anchor = 1, event.anchor
        else:
            continue
        if anchor is not None:
            known[anchor] = size
        sizes[-1] += size
        if sizes[-1] > _VALUES:
            raise ValueError(f"more than {_VALUES} values, with what its aliases stand for")


def _check_plain(path: Path, value: Any, key: str) -> None:
    where = f"{path}: {key or '(top level)'}"
    if isinstance(value, dict):
        for name, item in value.items():
            # Integers are keys too: raw ids of labels.
            named = isinstance(name, str) and _is_text(name)
            if not named and (not isinstance(name, int) or isinstance(name, bool)):
                raise PipelineError(
                    f"{where}: the key {shown(name)} is neither text nor an integer; put it in "
                    "quotes"
                )
            _check_plain(path, item, f"{key}.{name}" if key else shown(name).strip("'"))
        if len({isinstance(name, str) for name in value}) > 1:
            raise PipelineError(f"{where}: has texts and integers for keys; expected one of them")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_plain(path, item, f"{key}.{index}" if key else str(index))
    elif not isinstance(value, _LEAVES):
        raise PipelineError(
            f"{where}: expected text, a number, a list or a mapping, got a "
            f"{type(value).__name__}; put it in quotes"
        )
    elif isinstance(value, str) and not _is_text(value):
        raise PipelineError(f"{where}: {shown(value)} holds half a character (a lone surrogate)")
    elif isinstance(value, int) and abs(value) >= 10**_DIGITS:
        raise PipelineError(f"{where}: expected at most {_DIGITS} digits, got {shown(value)}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise PipelineError(f"{where}: expected a finite number, got {value}")


def _is_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)
