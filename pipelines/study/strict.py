"""What all parameter files have in common: strict models, and types of their values."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pipelines.base import metric_names

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
SidePixels = Annotated[int, Field(gt=0)]
Range = Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=2, max_length=2)]
Colour = Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=3, max_length=3)]


def _is_a_metric(name: str) -> str:
    if not re.fullmatch(metric_names.pattern(), name):
        raise ValueError(f"expected a score's name, to match pattern {metric_names.pattern()}")
    return name


MetricName = Annotated[
    str,
    AfterValidator(_is_a_metric),
    Field(json_schema_extra={"pattern": metric_names.pattern()}),
]
"""A score of the whole split, or of one class; not of a subset, which only some studies have."""


class Strict(BaseModel):
    """Base of all parameter models: unknown keys and coercions are errors, values do not change."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True
    )
