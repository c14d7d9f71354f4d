"""Checks of the options of methods: a wrong one is a ValueError that names it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, TypeGuard

__all__ = [
    "check_choice",
    "check_flag",
    "check_integer",
    "check_number",
    "check_shares",
    "is_number",
]


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a finite real number, and no bool."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def check_number(name: str, value: object, interval: str = "[0, inf)") -> None:
    """Refuse what is no number in an interval, written as "[0, 1)" or "(0, inf)".

    Raises:
        ValueError: naming the option, its value and what was expected.
    """
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    inside = is_number(value) and (
        (value > low if interval[0] == "(" else value >= low)
        and (value < high if interval[-1] == ")" else value <= high)
    )
    if not inside:
        kind = f"number in {interval}"
        if math.isinf(high):
            kind = f"finite number {'>' if interval[0] == '(' else '>='} {low:g}"
        raise ValueError(f"{name}={value!r}: expected a {kind}")


def check_integer(name: str, value: object, low: int | None = None) -> None:
    """Refuse what is no integer, or below `low`."""
    if not isinstance(value, int) or isinstance(value, bool) or (low is not None and value < low):
        bound = "" if low is None else f" >= {low}"
        raise ValueError(f"{name}={value!r}: expected an integer{bound}")


def check_choice(name: str, value: object, allowed: Sequence[str]) -> None:
    """Refuse what is none of the allowed words."""
    if value not in allowed:
        raise ValueError(f"{name}={value!r}: expected {' or '.join(map(repr, allowed))}")


def check_flag(name: str, value: object) -> None:
    """Refuse what is not True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}={value!r}: expected True or False")


def check_shares(name: str, values: Any, num_classes: int | None = None) -> None:
    """Refuse what is no list of one number >= 0 a class, of which one at least is above 0."""
    right = (
        isinstance(values, Sequence)
        and not isinstance(values, str)
        and all(is_number(value) and value >= 0 for value in values)
        and any(value > 0 for value in values)
        and num_classes in (None, len(values))
    )
    if not right:
        count = "one" if num_classes is None else f"{num_classes}, one"
        raise ValueError(
            f"{name}={values!r}: expected a list of numbers >= 0, {count} a class, not all 0"
        )
