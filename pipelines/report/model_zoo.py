"""The scores that mmsegmentation's model zoo publishes, read from the installed package."""

from __future__ import annotations

import re
from functools import cache
from importlib import metadata
from typing import Any

from ruamel.yaml import YAML

from pipelines.base.errors import PipelineError
from pipelines.base.metric_names import MULTI_SCALE
from pipelines.study import REFERENCE
from pipelines.study.reference import Recipe, ReferenceFile, Result, Source
from sar.packaged import mmseg_configs

_METRICS = {"mIoU": "mIoU", "mIoU(ms+flip)": MULTI_SCALE}
"""Our names by those of metafiles."""


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
            for theirs_name, metric in _METRICS.items():
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


@cache
def _metafile(family: str) -> list[dict[str, Any]]:
    path = mmseg_configs() / family / "metafile.yaml"
    if not path.is_file():
        raise PipelineError(f"{REFERENCE}: zoo.models: mmsegmentation has no {path.parent.name!r}")
    return YAML(typ="safe", pure=True).load(path)["Models"]


@cache
def _config_recipe(name: str) -> Recipe:
    from mmengine.config import Config

    config = Config.fromfile(mmseg_configs().parent / name)
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
