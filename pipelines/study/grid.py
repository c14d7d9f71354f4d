"""Grids of hyper-parameters: a method with a `grid` stands for a method at each of its points.

The points take the method's place when the study is read, so all that comes after sees plain
methods. A point's name holds its keys and values: whoever knows the name knows what was swept.
"""

from __future__ import annotations

import copy
import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field

Value = bool | int | float | str
Values = Annotated[list[Value], Field(min_length=1)]

_MOST = 1_000
"""Points of one grid; more are a slip."""
_RECIPE = "training."
_LARGEST_IN_FULL = 10**6
_TEXT = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Sweep:
    """What became of a method with a grid."""

    method: str
    """Its name in the study file."""
    label: str
    given: frozenset[str]
    """The keys that it has there."""
    points: dict[str, dict[str, Value]]
    """For each method that it stands for, by name: the value of each swept key."""

    @property
    def keys(self) -> list[str]:
        """As the study file has them, in order."""
        return list(next(iter(self.points.values())))


def expand(methods: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Sweep]]:
    """The methods of a study file, each that has a `grid` replaced by those at its points.

    Args:
        methods: as they were read, not yet validated: what has no shape of a method or of a grid
            stays, for the schema to refuse.

    Returns:
        The methods without grids, and a sweep for each that had one, by its name.

    Raises:
        ValueError: naming the key, for a value or a key that cannot be swept, one that the method
            has besides, or two methods of one name.
    """
    plain: dict[str, Any] = {}
    sweeps: dict[str, Sweep] = {}
    for name, method in methods.items():
        points = {name: method}
        if _has_grid(method):
            points, swept = _expanded(name, method)
            sweeps[name] = Sweep(name, str(method.get("label", name)), frozenset(method), swept)
        for each in points:
            if each in plain:
                raise ValueError(
                    f"methods.{name}: {each!r} is a second method of that name; expected another "
                    "name for one of them"
                )
        plain |= points
    return plain, sweeps


def shown(value: Value) -> str:
    """A value of a grid as labels and tables show it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _has_grid(method: Any) -> bool:
    grid = method.get("grid") if isinstance(method, dict) else None
    return (
        isinstance(grid, dict)
        and bool(grid)
        and all(isinstance(k, str) and isinstance(v, list) and v for k, v in grid.items())
    )


def _expanded(
    name: str, method: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, dict[str, Value]]]:
    """The methods that one with a grid stands for, and what is swept in each, by their names."""
    where, grid = f"methods.{name}.grid", method["grid"]
    count = math.prod(len(values) for values in grid.values())
    if count > _MOST:
        raise ValueError(f"{where}: {count} points, expected at most {_MOST}")
    for key, values in grid.items():
        words = [_word(f"{where}.{key}", value) for value in values]
        twice = [word for word in words if words.count(word) > 1]
        if twice:
            raise ValueError(f"{where}.{key}: {twice[0]} stands here twice; expected each once")
    points: dict[str, Any] = {}
    swept: dict[str, dict[str, Value]] = {}
    for values in itertools.product(*grid.values()):
        at = dict(zip(grid, values, strict=True))
        point = {key: copy.deepcopy(value) for key, value in method.items() if key != "grid"}
        parts = [name]
        for key, value in at.items():
            _put(f"{where}.{key}", point, key, value)
            parts += [_short(key).replace(".", "_").lower(), _word(f"{where}.{key}", value)]
        if isinstance(method.get("label"), str):
            told = (f"{_short(key)} {shown(value)}" for key, value in at.items())
            point["label"] = ", ".join([method["label"], *told])
        points["-".join(parts)] = point
        swept["-".join(parts)] = at
    if len(points) < count:
        raise ValueError(f"{where}: points of one name; expected keys that differ in more")
    return points, swept


def _put(where: str, point: dict[str, Any], key: str, value: Value) -> None:
    """Give a method an option, or below `training` a key of its recipe."""
    path = key.split(".") if key.startswith(_RECIPE) else ["options", key]
    if not all(path) or not all(re.fullmatch(r"\w+", part) for part in path):
        raise ValueError(
            f"{where}: expected the name of an option, or of a key of training such as "
            "training.optimizer.lr"
        )
    *folders, last = path
    node: Any = point
    for part in folders:
        node = node.setdefault(part, {}) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        raise ValueError(f"{where}: the method has a value at {'.'.join(folders)}, not a mapping")
    if last in node:
        raise ValueError(
            f"{where}: the method's {'.'.join(path)} is {node[last]!r} already; expected it in one "
            "of the two"
        )
    node[last] = value


def _short(key: str) -> str:
    return key.removeprefix(_RECIPE)


def _word(where: str, value: Any) -> str:
    """A value as a part of a method's name, which has letters, digits, dashes and underscores."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and math.isfinite(value):
        return _number(value)
    if isinstance(value, str) and _TEXT.fullmatch(value) and value not in ("true", "false"):
        return value
    raise ValueError(
        f"{where}: got {value!r}, expected numbers, true, false, or words of small letters, "
        "digits and underscores, since the names of methods are made of them"
    )


def _number(value: int | float) -> str:
    """No dot: 0.25 is 25e-2."""
    number = Decimal(repr(value)).normalize()
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int), "a finite number"
    if exponent >= 0 and abs(number) < _LARGEST_IN_FULL:
        text = str(abs(int(number)))
    else:
        text = "".join(map(str, digits)) + (f"e{exponent}" if exponent else "")
    return f"minus{text}" if sign else text
