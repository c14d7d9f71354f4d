"""A study: its runs, its claims and the place of every file of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pipelines.cards import DataCard
from pipelines.errors import PipelineError
from pipelines.schema import Claim, Evaluation, ModelEntry, Override, Strict, StudyFile, Training
from pipelines.study.data import Dataset, Weights
from pipelines.study.parameters import (
    hash_of,
    merge,
    params_file,
    read_named,
    read_params,
    validated,
)
from pipelines.study.places import (
    DATASET_STAGES,
    MODEL_STAGES,
    REFERENCE,
    REPORTS,
    RESULTS,
    RUN_STAGES,
    STUDY_STAGES,
    WEIGHTS_SHOWN,
    WORK,
    stage_outputs,
)
from pipelines.study.run import Run

_Model = TypeVar("_Model", bound=Strict)


def published_names() -> list[str]:
    """The studies that have something published."""
    return sorted(path.parent.name for path in REPORTS.glob("*/study.yaml"))


@dataclass(frozen=True)
class Claimed:
    """A claim of a study about one data set and model: one test."""

    name: str
    claim: Claim
    dataset: str
    model: str
    against: str
    seeds: list[int]
    """Those that pair the two methods."""


@dataclass(frozen=True)
class Study:
    """A validated study file with its data cards and model entries."""

    name: str
    path: Path
    file: StudyFile
    datasets: dict[str, Dataset]
    models: dict[str, ModelEntry]
    variant: str | None = None
    home: Path = RESULTS

    @classmethod
    def load(cls, name_or_path: str) -> Study:
        """Read `params/studies/<name>.yaml`, or the YAML file at a path, and all that it names.

        Either may end in `@VARIANT`.

        Raises:
            PipelineError: for a missing or unknown file, key, data set, model or combination.
        """
        plain, at, variant = name_or_path.rpartition("@")
        if not at or "/" in variant:
            plain, variant = name_or_path, None
        path = Path(plain)
        if path.suffix not in (".yaml", ".yml"):
            path = params_file("studies", plain)
        file = read_params(path, StudyFile, variant)
        datasets = {
            name: Dataset(name, read_named(path, "datasets", name, DataCard))
            for name in file.datasets
        }
        models = {name: read_named(path, "models", name, ModelEntry) for name in file.models}
        name = path.stem if variant is None else f"{path.stem}@{variant}"
        study = cls(name, path, file, datasets, models, variant)
        study._check_runs()
        study._check_claims()
        return study

    @classmethod
    def load_published(cls, name: str) -> Study:
        """The study as it was published: its runs, comparison and data lie below `reports/<name>`.

        Data cards and model entries are those of today.

        Raises:
            PipelineError: when nothing is published under that name, or it cannot be read.
        """
        home = REPORTS / name
        if not (home / "study.yaml").is_file():
            known = ", ".join(published_names()) or "nothing"
            raise PipelineError(f"{home}/study.yaml: not found; {REPORTS} has: {known}")
        _, at, variant = name.partition("@")
        study = cls.load(f"{home}/study.yaml{at}{variant}")
        data = {
            key: replace(dataset, home=home / "data") for key, dataset in study.datasets.items()
        }
        return replace(study, name=name, datasets=data, home=REPORTS)

    def _check_runs(self) -> None:
        """Every run's values are valid, and its data set has the splits that they need."""
        for dataset in self.datasets.values():
            for model in self.models:
                evaluation = self.evaluation_of(dataset.name, model)
                wanted = {"evaluation.split": evaluation.split}
                for method in self.file.methods:
                    training = self.training_of(dataset.name, model, method)
                    self._check_batch(dataset.name, model, method, training.batch_size)
                    if training.validation_interval is not None:
                        key = self._origin("validation_interval", dataset.name, model, method)
                        wanted[key] = "val"
                for key, split in wanted.items():
                    if split not in dataset.card.splits:
                        raise PipelineError(
                            f"{self.path}: {key}: needs the split {split}, and "
                            f"{dataset.card_file} has {', '.join(dataset.card.splits)}"
                        )
                dataset.subsets(evaluation, self.path)

    def _origin(self, key: str, dataset: str, model: str, method: str) -> str:
        """Where the file sets this key of a run's `training`."""
        origin = "training"
        for name, override in self._overrides(dataset, model).items():
            if key in override.training:
                origin = f"overrides.{name}.training"
        if key in self.file.methods[method].training:
            origin = f"methods.{method}.training"
        return f"{origin}.{key}"

    def _overrides(self, dataset: str, model: str) -> dict[str, Override]:
        """Those that match, in the order in which they are merged."""
        every = self.file.overrides.items()
        return {name: override for name, override in every if override.matches(dataset, model)}

    def _check_batch(self, dataset: str, model: str, method: str, images: int) -> None:
        accumulate = self.models[model].accumulate
        parts = self.file.processes * accumulate
        if images % parts:
            key = self._origin("batch_size", dataset, model, method)
            raise PipelineError(
                f"{self.path}: {key}: {images} images cannot be shared "
                f"equally by the study's {self.file.processes} processes with the "
                f"{accumulate} parts each of accumulate in {params_file('models', model)}; "
                f"expected a multiple of {parts}"
            )

    def _check_claims(self) -> None:
        for claimed in self.claims:
            kind, _, name = claimed.claim.metric.partition("/")
            evaluation = self.evaluation_of(claimed.dataset, claimed.model)
            if name == "multi-scale" and kind == "mIoU" and evaluation.multi_scale is None:
                raise PipelineError(
                    f"{self.path}: claims.{claimed.name}.metric: runs of {claimed.dataset} / "
                    f"{claimed.model} have no {claimed.claim.metric}; expected "
                    "evaluation.multi_scale for them, or a claim about others"
                )
            card = self.datasets[claimed.dataset].card
            if kind == "IoU" and name not in card.classes:
                raise PipelineError(
                    f"{self.path}: claims.{claimed.name}.metric: the data set {claimed.dataset!r} "
                    f"has no class {name!r}; {self.datasets[claimed.dataset].card_file} has "
                    f"{', '.join(card.classes)}"
                )

    @cached_property
    def claims(self) -> list[Claimed]:
        """All tests that the study makes, in the order of its file."""
        return [
            Claimed(name, claim, dataset, model, against, seeds)
            for name, claim in self.file.claims.items()
            for against in [claim.against or self.file.baseline]
            for seeds in [self.file.paired_seeds(claim.method, against)]
            for dataset in self.datasets
            for model in self.models
            if claim.dataset in (None, dataset) and claim.model in (None, model)
        ]

    @cached_property
    def weights(self) -> dict[str, Weights]:
        """By model, for those whose backbone starts from published weights."""
        if self.file.from_scratch:
            return {}
        return {
            name: Weights(name, entry.pretrained)
            for name, entry in self.models.items()
            if entry.pretrained is not None
        }

    def training_of(self, dataset: str, model: str, method: str) -> Training:
        """The recipe of these runs: the study's, then its `overrides`, then the method's."""
        steps = {
            f"overrides.{name}.training": override.training
            for name, override in self._overrides(dataset, model).items()
        }
        steps[f"methods.{method}.training"] = self.file.methods[method].training
        return self._merged(self.file.training, steps)

    def evaluation_of(self, dataset: str, model: str) -> Evaluation:
        """How these runs are evaluated: as the study says, then its `overrides`."""
        steps = {
            f"overrides.{name}.evaluation": override.evaluation
            for name, override in self._overrides(dataset, model).items()
        }
        return self._merged(self.file.evaluation, steps)

    def _merged(self, base: _Model, steps: dict[str, dict[str, Any]]) -> _Model:
        """`base` with the values of each step, every step's outcome being valid in itself."""
        value = base
        for key, overrides in steps.items():
            merged = merge(value.model_dump(), overrides)
            value = validated(f"{self.path}: {key}", type(base), merged)
        return value

    def input_receipts(self, stage: str) -> list[Path]:
        """The receipts that a stage of the whole study depends on."""
        if stage == "report":
            known = [REFERENCE] if REFERENCE.is_file() else []
            return [self.output(s, "receipt.json") for s in ("compare", "analyse")] + known
        stages = ("evaluate",) if stage == "analyse" else RUN_STAGES
        return [run.output(stage, "receipt.json") for run in self.runs for stage in stages]

    @property
    def run_threads(self) -> int:
        """CPU threads that a run needs, for a driver."""
        return self.file.threads * self.file.processes

    @property
    def run_gpus(self) -> int:
        """GPUs that a driver asks for a run; 0 where it takes what there is."""
        return self.file.processes if self.file.gpus else 0

    @property
    def argument(self) -> str:
        """What to give to `--study`: the name, or the path of a file kept elsewhere."""
        return self.name if self.path == params_file("studies", self.path.stem) else self.reference

    @property
    def reference(self) -> str:
        """The path of the file, with the variant: `--study` for a driver, wherever the file is."""
        return f"{self.path.as_posix()}@{self.variant}" if self.variant else self.path.as_posix()

    @property
    def results(self) -> Path:
        return self.home / self.name

    @property
    def work(self) -> Path:
        return WORK / self.name

    @property
    def published(self) -> Path:
        return REPORTS / self.name

    def folder(self, stage: str) -> Path:
        """Where `stage` (compare, analyse or report) of the whole study writes."""
        return self.results / stage

    def output(self, stage: str, name: str) -> Path:
        """A file that `stage` declares, or one in a folder that it declares."""
        folder = f"{name.partition('/')[0]}/"
        if not {name, folder} & {*STUDY_STAGES[stage], "receipt.json", "runtime.json"}:
            raise KeyError(f"stage {stage} declares no output {name}")
        return self.folder(stage) / name

    def outputs(self, stage: str) -> list[str]:
        """All that `stage` writes, for a driver to declare; a folder ends in a slash.

        The paths hold the wildcard `{dataset}`, `{model}` or `{run}` where the stage belongs to
        one.
        """
        if stage in MODEL_STAGES:
            parent, files = MODEL_STAGES[stage]
            return stage_outputs(parent / "{model}", files)
        if stage in DATASET_STAGES:
            parent, files = DATASET_STAGES[stage]
            return stage_outputs(parent / "{dataset}", files)
        if stage in RUN_STAGES:
            return stage_outputs(self._run_folder("{run}", stage), RUN_STAGES[stage])
        return stage_outputs(self.folder(stage), STUDY_STAGES[stage])

    def log(self, stage: str) -> str:
        """Where a driver keeps what `stage` prints; with the wildcard of its outputs."""
        wildcards = {
            **dict.fromkeys(DATASET_STAGES, "{dataset}"),
            **dict.fromkeys(MODEL_STAGES, "{model}"),
            **dict.fromkeys(RUN_STAGES, "{run}"),
        }
        part = wildcards.get(stage, ".")
        return (self.work / "logs" / part / f"{stage}.log").as_posix()

    @property
    def run_folder(self) -> Path:
        """The folder of all that its runs write."""
        return self.results / "runs"

    def _run_folder(self, run: str, stage: str) -> Path:
        return self.run_folder / run / stage

    @cached_property
    def runs(self) -> list[Run]:
        """All runs; the methods of one seed stand together, so that pairs finish together."""
        return [
            Run(self, dataset, model, method, seed)
            for dataset in self.datasets.values()
            for model in self.models
            for seed in self.file.seeds
            for method, spec in self.file.methods.items()
            if spec.seeds is None or seed in spec.seeds
        ]

    def run(self, name: str) -> Run:
        """The run called `<dataset>/<model>/<method>/seed<k>`.

        Raises:
            PipelineError: when the study has no such run.
        """
        for run in self.runs:
            if run.name == name:
                return run
        known = "\n  ".join(run.name for run in self.runs)
        raise PipelineError(f"--run {name}: study {self.name!r} has no such run; it has\n  {known}")

    def parameters(self, stage: str, *, defaults: bool = True) -> dict[str, Any]:
        """All that determines what compare, analyse or report write besides their inputs.

        `defaults=False` leaves out what has its default value.
        """
        runs = [run.name for run in self.runs]
        if stage == "analyse":
            return {"baseline": self.file.baseline, "runs": runs}
        if stage == "compare":
            parameters = {"baseline": self.file.baseline, "runs": runs}
            if defaults or self.file.claims:
                parameters["claims"] = {
                    name: claim.model_dump(exclude_defaults=not defaults)
                    for name, claim in self.file.claims.items()
                }
            return parameters
        titles = {
            name: entry.title
            for entries in (
                {name: dataset.card for name, dataset in self.datasets.items()},
                self.models,
            )
            for name, entry in entries.items()
        }
        unseen = {"variants", "workers"}
        file = self.file.model_dump(exclude=unseen, exclude_defaults=not defaults)
        weights = {
            name: entry.pretrained.model_dump(include=WEIGHTS_SHOWN)
            for name, entry in self.models.items()
            if entry.pretrained is not None
        }
        withheld = [name for name, each in self.datasets.items() if each.card.withheld_images]
        optional = {"weights": weights, "withheld": withheld}
        given = {key: value for key, value in optional.items() if value}
        return file | {"runs": runs, "titles": titles} | given

    def parameters_hash(self, stage: str) -> str:
        return hash_of(self, stage)
