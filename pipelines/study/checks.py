"""What a study file must agree with besides its schema: data sets, processes, claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pipelines.base import metric_names
from pipelines.base.errors import Faults, PipelineError
from pipelines.study.data import Dataset
from pipelines.study.evaluation import Evaluation
from pipelines.study.model_entry import ModelEntry
from pipelines.study.parameters import params_file
from pipelines.study.recipe import Augmentation, Training
from pipelines.study.schema import Claim, Override, StudyFile


class _Claimed(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def claim(self) -> Claim: ...

    @property
    def dataset(self) -> str: ...

    @property
    def model(self) -> str: ...


class Checked(Protocol):
    """What the checks ask of a `Study`."""

    @property
    def path(self) -> Path: ...

    @property
    def file(self) -> StudyFile: ...

    @property
    def datasets(self) -> Mapping[str, Dataset]: ...

    @property
    def models(self) -> Mapping[str, ModelEntry]: ...

    @property
    def claims(self) -> Sequence[_Claimed]: ...

    def training_of(self, dataset: str, model: str, method: str) -> Training: ...

    def evaluation_of(self, dataset: str, model: str) -> Evaluation: ...

    def overrides_of(self, dataset: str, model: str) -> Mapping[str, Override]: ...


def check_runs(study: Checked) -> None:
    """Every run's values are valid, and its data set has the splits that they need."""
    faults = Faults()
    for dataset in study.datasets.values():
        for model in study.models:
            with faults.noted():
                _check_evaluation(study, dataset, model)
            for method in study.file.methods:
                with faults.noted():
                    _check_training(study, dataset, model, method)
    faults.raise_all()


def _check_evaluation(study: Checked, dataset: Dataset, model: str) -> None:
    evaluation = study.evaluation_of(dataset.name, model)
    _check_split(study, dataset, "evaluation.split", evaluation.split)
    dataset.subsets(evaluation, study.path)


def _check_training(study: Checked, dataset: Dataset, model: str, method: str) -> None:
    training = study.training_of(dataset.name, model, method)
    _check_batch(study, dataset.name, model, method, training.batch_size)
    _check_crop(study, dataset.name, model, method, training.augmentation)
    if training.validation_interval is not None:
        key = _origin(study, "validation_interval", dataset.name, model, method)
        _check_split(study, dataset, key, "val")


def _check_split(study: Checked, dataset: Dataset, key: str, split: str) -> None:
    if split not in dataset.card.splits:
        raise PipelineError(
            f"{study.path}: {key}: needs the split {split}, and "
            f"{dataset.card_file} has {', '.join(dataset.card.splits)}"
        )


def _origin(study: Checked, key: str, dataset: str, model: str, method: str) -> str:
    """Where the file sets this key of a run's `training`."""
    origin = "training"
    for name, override in study.overrides_of(dataset, model).items():
        if key in override.training:
            origin = f"overrides.{name}.training"
    if key in study.file.methods[method].training:
        origin = f"methods.{method}.training"
    return f"{origin}.{key}"


def _check_batch(study: Checked, dataset: str, model: str, method: str, images: int) -> None:
    accumulate = study.models[model].accumulate
    parts = study.file.processes * accumulate
    if images % parts:
        key = _origin(study, "batch_size", dataset, model, method)
        raise PipelineError(
            f"{study.path}: {key}: {images} images cannot be shared "
            f"equally by the study's {study.file.processes} processes with the "
            f"{accumulate} parts each of accumulate in {params_file('models', model)}; "
            f"expected a multiple of {parts}"
        )


def _check_crop(
    study: Checked, dataset: str, model: str, method: str, augmentation: Augmentation
) -> None:
    """Refuse a crop that the largest image leaves unfilled both ways: all else is padding.

    Which way images lie is not known here: longer sides are compared, and shorter ones.
    """
    scale, crop = study.file.image_scale, augmentation.crop_size
    largest = augmentation.largest(scale)
    if crop is None or largest is None or max(crop) <= largest[0] or min(crop) <= largest[1]:
        return
    key = _origin(study, "augmentation", dataset, model, method)
    images = f"the largest image: {largest[0]} x {largest[1]} pixels"
    raise PipelineError(f"{study.path}: {key}.{augmentation.crop_fault(images, scale)}")


def check_claims(study: Checked) -> None:
    faults = Faults()
    for claimed in study.claims:
        with faults.noted():
            _check_claim(study, claimed)
    faults.raise_all()


def _check_claim(study: Checked, claimed: _Claimed) -> None:
    metric = metric_names.find(claimed.claim.metric)
    asked = metric and metric.evaluation_key
    evaluation = study.evaluation_of(claimed.dataset, claimed.model)
    if asked and getattr(evaluation, asked) is None:
        raise PipelineError(
            f"{study.path}: claims.{claimed.name}.metric: runs of {claimed.dataset} / "
            f"{claimed.model} have no {claimed.claim.metric}; expected "
            f"evaluation.{asked} for them, or a claim about others"
        )
    if metric is None and claimed.claim.metric.startswith(metric_names.of_subset("")):
        subsets = [metric_names.of_subset(name) for name in evaluation.subsets]
        if claimed.claim.metric not in subsets:
            known = ", ".join([*metric_names.names(), *subsets])
            raise PipelineError(
                f"{study.path}: claims.{claimed.name}.metric: runs of {claimed.dataset} / "
                f"{claimed.model} have no {claimed.claim.metric}; they have {known}, and IoU/ "
                "of a class; a subset of the split has to be in evaluation.subsets"
            )
    card = study.datasets[claimed.dataset].card
    name = metric_names.class_of(claimed.claim.metric)
    if name is not None and name not in card.classes:
        raise PipelineError(
            f"{study.path}: claims.{claimed.name}.metric: the data set {claimed.dataset!r} "
            f"has no class {name!r}; {study.datasets[claimed.dataset].card_file} has "
            f"{', '.join(card.classes)}"
        )
