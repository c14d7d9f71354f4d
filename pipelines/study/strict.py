"""What all parameter files have in common: strict models, and types of their values."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pipelines.base import metric_names

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64)]
"""Also of folders: four of them and what stages add make a path."""
Seed = Annotated[int, Field(ge=0, lt=2**31)]
SidePixels = Annotated[int, Field(gt=0, le=2**16)]
Iterations = Annotated[int, Field(gt=0, le=10**9)]
Images = Annotated[int, Field(gt=0, le=2**16)]
"""Of one batch."""
Processes = Annotated[int, Field(gt=0, le=1024)]
"""Or threads: more than any machine has are a slip of the keyboard."""
Factor = Annotated[float, Field(gt=0, le=100)]
"""On the size of an image."""


def _ascending(pair: list[float]) -> list[float]:
    if pair[0] > pair[1]:
        raise ValueError(f"the least is {pair[0]} and the greatest {pair[1]}; expected that order")
    return pair


_Pair = (Field(min_length=2, max_length=2), AfterValidator(_ascending))
Scales = Annotated[list[Factor], *_Pair]
Range = Annotated[list[Annotated[float, Field(ge=0, le=100)]], *_Pair]
"""Least and greatest factor."""
Colour = Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=3, max_length=3)]


def _is_one_line(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("expected a line of text, without blanks at its ends")
    return text


Line = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_is_one_line)]
"""A name that is shown: in tables, figures and the heads of CSV files."""


def _is_a_metric(name: str) -> str:
    if not re.fullmatch(metric_names.pattern(), name):
        raise ValueError(f"expected a score's name, to match pattern {metric_names.pattern()}")
    return name


def _is_a_score(name: str) -> str:
    # Which subsets there are is known to the study, which checks it.
    of_subset = name.startswith(metric_names.of_subset("")) and name.strip() == name
    return name if of_subset else _is_a_metric(name)


MetricName = Annotated[
    str,
    AfterValidator(_is_a_metric),
    Field(json_schema_extra={"pattern": metric_names.pattern()}),
]
"""A score of the whole split, or of one class; not of a subset, which only some studies have."""

ScoreName = Annotated[
    str,
    AfterValidator(_is_a_score),
    Field(
        json_schema_extra={"pattern": f"{metric_names.pattern()}|^{metric_names.of_subset('.+')}$"}
    ),
]
"""The same, or the score of a subset of the split."""


class Strict(BaseModel):
    """Base of all parameter models: unknown keys, coercions and NaN are errors, values stay."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
