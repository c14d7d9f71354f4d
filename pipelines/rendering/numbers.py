"""The tables of a report: numbers as data first, then the same numbers as Markdown and LaTeX.

Scores are percentages and differences are percentage points. What has a deviation is rounded to
that deviation's second significant digit, and nothing is shown with more than two decimals.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import pandas as pd

NOTHING = "–"
"""Stands where there is nothing to show."""


def decimals_of(spread: float) -> int:
    """How many decimals a number has whose uncertainty is `spread`: two digits of it, up to 2."""
    if pd.isna(spread) or spread <= 0:
        return 2
    return min(2, max(0, 1 - math.floor(math.log10(spread))))


def cell(mean: float, std: float, signed: bool = False, decimals: int | None = None) -> str:
    """A mean with its deviation, without it where there is none, or a dash for no value.

    Args:
        decimals: as many instead of what the deviation asks for.
    """
    if pd.isna(mean):
        return NOTHING
    places = decimals_of(std) if decimals is None else decimals
    text = f"{mean:+.{places}f}" if signed else f"{mean:.{places}f}"
    return text if pd.isna(std) else f"{text} ± {std:.{places}f}"


def interval(low: float, high: float, decimals: int | None = None) -> str:
    """The two ends in brackets, or a dash where there is no interval.

    Args:
        decimals: as many instead of what half the interval's width asks for.
    """
    if pd.isna(low):
        return NOTHING
    places = decimals_of((high - low) / 2) if decimals is None else decimals
    return f"[{low:+.{places}f}, {high:+.{places}f}]"


def p_value(p: float) -> str:
    """Four decimals, which tell 2/2^n from its neighbours up to 13 pairs, or a dash for no test."""
    if pd.isna(p):
        return NOTHING
    return f"{p:.4f}" if p >= 1e-4 else "< 0.0001"


_NAMES = {"data set", "model", "method", "class", "group", "claim", "metric", "claimed", "verdict"}


NUMBER = re.compile(
    r"(?P<number>(?:< )?[+-]?\d[\d,]*\.?\d*(?:e[+-]?\d+)?(?: ± \d+\.?\d*)?|\[[^\[\]]*\d\])"
    r"(?P<note> .*)?"
)


def numeric(shown: pd.DataFrame) -> list[bool]:
    """For each column of text whether it holds numbers, to be aligned to the right."""
    return [
        name not in _NAMES
        and all(text == NOTHING or NUMBER.fullmatch(text) for text in shown[name])
        for name in shown.columns
    ]


def cells(table: pd.DataFrame, prefix: str, signed: bool = False) -> list[str]:
    pairs = zip(table[f"{prefix}_mean"], table[f"{prefix}_std"], strict=True)
    return [cell(mean, std, signed) for mean, std in pairs]


def intervals(table: pd.DataFrame, low: str, high: str, decimals: int | None = None) -> list[str]:
    return [interval(*ends, decimals) for ends in zip(table[low], table[high], strict=True)]


def listed(names: Mapping[str, str]) -> str:
    *first, last = names.values()
    return f"{', '.join(first)} and {last}" if first else last


def in_words(low: float, high: float, decimals: int | None = None) -> str:
    """What follows a mean difference in a sentence; nothing where there is no interval."""
    return "" if pd.isna(low) else f", 95 % interval {interval(low, high, decimals)}"
