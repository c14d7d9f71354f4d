"""Results that others published: `params/reference.yaml`, and mmsegmentation's model zoo.

The zoo's numbers are those of the installed package's metafiles, its recipes those of its configs.
A value that is published but not available here is None, and nothing stands in for it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipelines.study import REFERENCE, read_params
from pipelines.study.strict import MetricName, Name, SidePixels, Strict

Percent = Annotated[float, Field(ge=0, le=100)]


class Recipe(Strict):
    """How a result was made; null where the source does not say."""

    iterations: Annotated[int, Field(gt=0)] | None = None
    """Steps of the optimizer."""
    crop_size: Annotated[list[SidePixels], Field(min_length=2, max_length=2)] | None = None
    """Height and width of a training image in pixels."""
    batch_size: Annotated[int, Field(gt=0)] | None = None
    """Images over all GPUs."""
    pretrained: str | None = None
    """What the backbone starts from."""
    mode: Literal["whole", "slide"] | None = None
    """Of the single-scale test."""
    split: Literal["val", "test"] | None = None
    """What was tested."""
    seeds: Annotated[int, Field(gt=0)] | None = None
    """Over how many seeds the number is a mean."""
    checkpoint: Literal["last", "best"] | None = None
    """Which checkpoint was tested; `best` is the best one on the split that is reported."""


class Source(Strict):
    title: str
    """Authors, title, year: what is shown beside its numbers."""
    url: Annotated[str, Field(pattern=r"^https://")]
    """Where the numbers stand."""
    codebase: str
    """What they were made with."""


class Result(Strict):
    """One published number."""

    source: str
    """A key of `sources`."""
    label: str
    """What the source calls the method."""
    dataset: Name
    """Name of the data card that is the same data set."""
    model: str
    """In the source's words."""
    entry: Name | None = None
    """The entry of `params/models` that is the same model; only then it stands beside ours."""
    plugin: str | None = None
    """Our methods with this plug-in are the same method; without it, our baseline is."""
    metric: MetricName = "mIoU"
    """What was measured, by our names: `mIoU/multi-scale` for predictions averaged over scales."""
    value: Percent | None
    """In percent; null where it is not available."""
    recipe: Recipe = Recipe()
    """How it was made, as far as the source says; shown where ours differs."""


class Zoo(Strict):
    """Which of mmsegmentation's configs are our data sets and model entries."""

    datasets: dict[Name, str] = Field(default_factory=dict)
    """The part of a config's name between iterations and crop, such as `pascal-context-59`."""
    models: dict[Name, Annotated[str, Field(pattern=r"^[^/]+/[^/]+$")]] = Field(
        default_factory=dict
    )
    """The part of a config's path before the number of GPUs, such as `hrnet/fcn_hr48`."""


class ReferenceFile(Strict):
    """`params/reference.yaml`: published numbers, each with its source."""

    zoo: Zoo = Zoo()
    """What to read from mmsegmentation's own model zoo."""
    sources: dict[Name, Source] = Field(default_factory=dict)
    """Where numbers come from, by a short name."""
    results: list[Result] = Field(default_factory=list)
    """The numbers, in the order in which they are shown."""

    @model_validator(mode="after")
    def _sources_are_known(self) -> ReferenceFile:
        for index, result in enumerate(self.results):
            if result.source not in self.sources:
                known = ", ".join(self.sources) or "none"
                raise ValueError(
                    f"results.{index}.source: unknown {result.source!r}; sources has: {known}"
                )
        return self


def read_reference() -> ReferenceFile:
    """`params/reference.yaml`; empty where the project has none.

    Raises:
        PipelineError: for a mistake in it.
    """
    return read_params(REFERENCE, ReferenceFile) if REFERENCE.is_file() else ReferenceFile()
