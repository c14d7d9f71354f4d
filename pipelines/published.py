"""Results that others published: `params/reference.yaml`, and mmsegmentation's model zoo.

The zoo's numbers are those of the installed package's metafiles, its recipes those of its configs.
A value that is published but not available here is None, and nothing stands in for it.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from ruamel.yaml import YAML

from pipelines.errors import PipelineError
from pipelines.schema import Name, SidePixels, Strict
from pipelines.study import REFERENCE, read_params

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
    metric: Literal["mIoU", "mIoU/multi-scale"] = "mIoU"
    """Of one scale, or averaged over several."""
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


def zoo_results(reference: ReferenceFile, dataset: str, entry: str) -> list[Result]:
    """The zoo's results for one of our data sets and model entries, shortest training first."""
    theirs, stem = reference.zoo.datasets.get(dataset), reference.zoo.models.get(entry)
    if theirs is None or stem is None:
        return []
    family, _, architecture = stem.partition("/")
    # By name, since some metafiles give another data set than their configs have.
    pattern = re.compile(
        rf"{re.escape(architecture)}_(\d+)xb(\d+)-\d+k_{re.escape(theirs)}-\d+x\d+"
    )
    results = []
    for model in _metafile(family):
        match = pattern.fullmatch(model["Name"])
        if match is None:
            continue
        recipe = _config_recipe(model["Config"]).model_copy(
            update={
                # The weights tell two trainings apart that a metafile calls by one name.
                "iterations": 1000 * int(re.findall(r"_(\d+)k_", model["Weights"])[-1]),
                "batch_size": int(match[1]) * int(match[2]),
            }
        )
        outcomes = model["Results"]
        for outcome in outcomes if isinstance(outcomes, list) else [outcomes]:
            for theirs_name, metric in (("mIoU", "mIoU"), ("mIoU(ms+flip)", "mIoU/multi-scale")):
                if theirs_name in outcome["Metrics"]:
                    results.append(
                        Result(
                            source="zoo",
                            label="Baseline",
                            dataset=dataset,
                            model=architecture,
                            entry=entry,
                            metric=metric,
                            value=float(outcome["Metrics"][theirs_name]),
                            recipe=recipe,
                        )
                    )
    return sorted(results, key=lambda r: (r.recipe.iterations, r.recipe.crop_size, r.metric))


def zoo_source() -> Source:
    """The model zoo as a source, with the version that is installed."""
    version = metadata.version("onedl-mmsegmentation")
    return Source(
        title=f"mmsegmentation's model zoo, as in the package onedl-mmsegmentation {version}",
        url="https://github.com/open-mmlab/mmsegmentation",
        codebase="mmsegmentation",
    )


def _mim() -> Path:
    """The installed package's configs and metafiles, found without importing it."""
    spec = find_spec("mmseg")
    if spec is None or spec.origin is None:
        raise PipelineError("mmseg: not installed; expected onedl-mmsegmentation")
    return Path(spec.origin).parent / ".mim"


@cache
def _metafile(family: str) -> list[dict[str, Any]]:
    path = _mim() / "configs" / family / "metafile.yaml"
    if not path.is_file():
        raise PipelineError(f"{REFERENCE}: zoo.models: mmsegmentation has no {path.parent.name!r}")
    return YAML(typ="safe", pure=True).load(path)["Models"]


@cache
def _config_recipe(name: str) -> Recipe:
    from mmengine.config import Config

    config = Config.fromfile(_mim() / name)
    backbone = config.model.backbone.get("init_cfg") or {}
    return Recipe(
        crop_size=list(config.crop_size),
        pretrained=file_stem(config.model.get("pretrained") or backbone.get("checkpoint")),
        mode=config.model.test_cfg.mode,
        split="val",
    )


def file_stem(address: str | None) -> str | None:
    """What weights are called: the last part of an address, without its ending and date."""
    if address is None:
        return None
    return re.sub(r"([-_](\d{8}|[0-9a-f]{8}))*\.pth$", "", address.rpartition("/")[2])
