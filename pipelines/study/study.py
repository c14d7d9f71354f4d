"""A study: its runs, its claims and the place of every file of it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pipelines.base.errors import Faults, PipelineError
from pipelines.study import own_code
from pipelines.study.cards import DataCard
from pipelines.study.checks import check_claims, check_runs
from pipelines.study.data import Dataset, Weights
from pipelines.study.evaluation import Evaluation
from pipelines.study.model_entry import ModelEntry
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
    ENTRY_OF_TRAINING,
    MODEL_STAGES,
    REFERENCE,
    REPORTS,
    RESULTS,
    RUN_STAGES,
    SEEN_IN_TRAINING,
    STUDY_STAGES,
    WEIGHTS_SHOWN,
    WORK,
    stage_outputs,
)
from pipelines.study.recipe import Training
from pipelines.study.schema import Claim, Method, Override, StudyFile
from pipelines.study.strict import Strict

LONGEST_NAME = 128
"""Bytes of a study's name; a file's name may have 255, and temporary ones add to it."""

_Model = TypeVar("_Model", bound=Strict)
_NO_NAME = re.compile(r"^[-.]|[{}$:*?\[\]\\\x00-\x1f]|\s$")


def published_names() -> list[str]:
    """The studies that have something published; `archive/NAME` where others took their place."""
    files = (*REPORTS.glob("*/study.yaml"), *REPORTS.glob("archive/*/study.yaml"))
    return sorted(path.parent.relative_to(REPORTS).as_posix() for path in files)


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
class Run:
    """One training: a data set, a model, a method and a seed of a study."""

    study: Study = field(repr=False, compare=False)
    dataset: Dataset
    model: str
    method: str
    seed: int

    @cached_property
    def name(self) -> str:
        return f"{self.dataset.name}/{self.model}/{self.method}/seed{self.seed}"

    @property
    def entry(self) -> ModelEntry:
        return self.study.models[self.model]

    @property
    def spec(self) -> Method:
        return self.study.file.methods[self.method]

    @cached_property
    def training(self) -> Training:
        """The study's recipe with what it overrides for this data set, model and method."""
        return self.study.training_of(self.dataset.name, self.model, self.method)

    @cached_property
    def evaluation(self) -> Evaluation:
        """How the study evaluates this data set and model."""
        return self.study.evaluation_of(self.dataset.name, self.model)

    @property
    def keeps_predictions(self) -> bool:
        """Whether evaluate keeps what it predicts: of the study's first seed, to be looked at."""
        return self.evaluation.gallery > 0 and self.seed == self.study.file.seeds[0]

    def folder(self, stage: str) -> Path:
        """Where `stage` (train or evaluate) of this run writes."""
        return self.study.folder_of_run(self.name, stage)

    def output(self, stage: str, name: str) -> Path:
        if name not in (*RUN_STAGES[stage], "receipt.json", "runtime.json"):
            raise KeyError(f"stage {stage} declares no output {name}")
        return self.folder(stage) / name

    def input_receipts(self, stage: str) -> list[Path]:
        """The receipts that `stage` depends on; they stand for the large files behind them."""
        if stage == "train":
            return [self.dataset.receipt, *([self.weights.receipt] if self.weights else [])]
        return [self.dataset.receipt, self.output("train", "receipt.json")]

    @property
    def weights(self) -> Weights | None:
        """What the model's backbone starts from; None for random weights."""
        return self.study.weights.get(self.model)

    def parameters(self, stage: str, *, defaults: bool = True) -> dict[str, Any]:
        """All that determines what `stage` writes besides its inputs: no titles, no labels.

        `defaults=False` leaves out what has its default value.
        """

        def values(model: Strict, **kwargs: Any) -> dict[str, Any]:
            return model.model_dump(exclude_defaults=not defaults, **kwargs)

        own = ENTRY_OF_TRAINING if stage == "evaluate" else {"pretrained"}
        parameters = {
            "model": values(self.entry, exclude={"title"} | own),
            **values(self.study.file, include={"threads", "processes", "image_scale"}),
        }
        code = own_code.fingerprints(self.entry)
        parameters["model"] |= {"code": code} if code else {}
        if stage == "train" and self.weights is not None:
            parameters["model"]["pretrained"] = self.weights.parameters(
                "weights", defaults=defaults
            )
        if stage == "evaluate":
            subsets = self.dataset.subsets(self.evaluation, self.study.path)
            chosen = {"subsets": {name: values(each) for name, each in subsets.items()}}
            return (
                parameters | {"evaluation": values(self.evaluation)} | (chosen if subsets else {})
            )
        if self.training.validation_interval is not None:
            # The looks at val predict as the evaluation does.
            seen = values(self.evaluation, include=SEEN_IN_TRAINING)
            parameters |= {"validation": seen} if seen else {}
        return parameters | {
            "plugin": self.spec.plugin,
            "options": self.spec.options,
            "training": values(self.training),
            "seed": self.seed,
        }

    def parameters_hash(self, stage: str) -> str:
        return hash_of(self, stage)

    def again(self, stage: str) -> str:
        """What a message says of the way to have `stage` done (again)."""
        return f"run {self.command(stage)}"

    def command(self, stage: str) -> str:
        """What does `stage` by hand."""
        return f"{self.study.command(stage)} --run {shlex.quote(self.name)}"

    def work(self, key: str) -> Path:
        """Scratch that survives a kill, under `key`: the hash of parameters and data."""
        return self.study.work / "runs" / self.name / key[:16]


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
        plain, variant = name_or_path, cls.variant
        before, at, after = name_or_path.rpartition("@")
        if at and "/" not in after:
            plain, variant = before, after
        if not plain.strip():
            raise PipelineError(f"study {name_or_path!r}: expected a name, or the path to a file")
        path = Path(plain)
        if path.suffix not in (".yaml", ".yml"):
            path = params_file("studies", plain)
        file = read_params(path, StudyFile, variant)
        # It becomes a folder, and both drivers take braces and dollars for placeholders.
        if _NO_NAME.search(path.stem):
            raise PipelineError(
                f"{path}: cannot be a study's name; expected none of {{ }} $ : * ? [ ] \\ in it, "
                "no dash or dot at its beginning and no space at its end"
            )
        faults, datasets, models = Faults(), {}, {}
        for name in file.datasets:
            with faults.noted():
                datasets[name] = Dataset(name, read_named(path, "datasets", name, DataCard))
        for name in file.models:
            with faults.noted():
                models[name] = read_named(path, "models", name, ModelEntry)
                own_code.fingerprints(models[name])
        faults.raise_all()
        name = path.stem if variant is None else f"{path.stem}@{variant}"
        if len(name.encode()) > LONGEST_NAME:
            raise PipelineError(
                f"{path}: the study's name, {name!r}, takes {len(name.encode())} bytes; expected "
                f"at most {LONGEST_NAME}, since folders and files are named after it"
            )
        study = cls(name, path, file, datasets, models, variant)
        for check in (check_runs, check_claims):
            with faults.noted():
                check(study)
        faults.raise_all()
        return study

    @classmethod
    def load_published(cls, name: str, reports: Path = REPORTS) -> Study:
        """The study as it was published: its runs, comparison and data lie below `reports/<name>`.

        Data cards and model entries are those of today.

        Args:
            reports: the folder of what is published.

        Raises:
            PipelineError: when nothing is published under that name, or it cannot be read.
        """
        home = reports / name
        if not (home / "study.yaml").is_file():
            known = ", ".join(published_names()) or "nothing"
            raise PipelineError(f"{home}/study.yaml: not found; {REPORTS} has: {known}")
        _, at, variant = name.partition("@")
        study = cls.load(f"{home}/study.yaml{at}{variant}")
        data = {
            key: replace(dataset, home=home / "data") for key, dataset in study.datasets.items()
        }
        return replace(study, name=name, datasets=data, home=reports)

    def overrides_of(self, dataset: str, model: str) -> dict[str, Override]:
        """Those that match, in the order in which they are merged."""
        every = self.file.overrides.items()
        return {name: override for name, override in every if override.matches(dataset, model)}

    @cached_property
    def claims(self) -> list[Claimed]:
        """All tests that the study makes, in the order of its file."""
        claims = []
        for name, claim in self.file.claims.items():
            against = claim.against or self.file.baseline
            seeds = self.file.paired_seeds(claim.method, against)
            claims += [
                Claimed(name, claim, dataset, model, against, seeds)
                for dataset in self.datasets
                for model in self.models
                if claim.dataset in (None, dataset) and claim.model in (None, model)
            ]
        return claims

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
            for name, override in self.overrides_of(dataset, model).items()
        }
        steps[f"methods.{method}.training"] = self.file.methods[method].training
        return self._merged(self.file.training, steps)

    def evaluation_of(self, dataset: str, model: str) -> Evaluation:
        """How these runs are evaluated: as the study says, then its `overrides`."""
        steps = {
            f"overrides.{name}.evaluation": override.evaluation
            for name, override in self.overrides_of(dataset, model).items()
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
        """What to type after `--study`: the name, or the path of a file kept elsewhere, quoted."""
        named = self.path == params_file("studies", self.path.stem)
        return shlex.quote(self.name if named else self.reference)

    @property
    def reference(self) -> str:
        """The path of the file, with the variant: `--study` for a driver, wherever the file is."""
        return f"{self.path.as_posix()}@{self.variant}" if self.variant else self.path.as_posix()

    def again(self, stage: str) -> str:
        """What a message says of the way to have `stage` done (again)."""
        return f"run {self.command(stage)}"

    def command(self, stage: str) -> str:
        """What does `stage` by hand."""
        return f"python -m pipelines.{stage} --study {self.argument}"

    @property
    def results(self) -> Path:
        return self.home / self.name

    @property
    def work(self) -> Path:
        return WORK / self.name

    @property
    def published(self) -> Path:
        return REPORTS / self.name

    def published_data(self, name: str) -> Dataset:
        """A data set with what prepare said of it when the study was published."""
        return replace(self.datasets[name], home=self.published / "data")

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
            return stage_outputs(self.folder_of_run("{run}", stage), RUN_STAGES[stage])
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

    def folder_of_run(self, run: str, stage: str) -> Path:
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

    @cached_property
    def _runs_by_name(self) -> dict[str, Run]:
        return {run.name: run for run in self.runs}

    @cached_property
    def iterations(self) -> dict[int, set[tuple[str, str]]]:
        """How long the compared methods train, each with its data sets and models."""
        places: dict[int, set[tuple[str, str]]] = {}
        for run in self.runs:
            if not run.spec.control:
                place = (run.dataset.name, run.model)
                places.setdefault(run.training.iterations, set()).add(place)
        return places

    def run(self, name: str) -> Run:
        """The run called `<dataset>/<model>/<method>/seed<k>`.

        Raises:
            PipelineError: when the study has no such run.
        """
        if name in self._runs_by_name:
            return self._runs_by_name[name]
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
            parameters: dict[str, Any] = {"baseline": self.file.baseline, "runs": runs}
            if defaults or self.file.claims:
                parameters["claims"] = {
                    name: claim.model_dump(exclude_defaults=not defaults)
                    for name, claim in self.file.claims.items()
                }
            return parameters
        titles = {name: dataset.card.title for name, dataset in self.datasets.items()}
        titles |= {name: entry.title for name, entry in self.models.items()}
        unseen = {"variants", "workers", "image_cache", "runs_per_gpu"}
        file = self.file.model_dump(exclude=unseen, exclude_defaults=not defaults)
        weights = {
            name: entry.pretrained.model_dump(include=WEIGHTS_SHOWN)
            for name, entry in self.models.items()
            if entry.pretrained is not None
        }
        withheld = [name for name, each in self.datasets.items() if each.card.withheld_images]
        sweeps = {name: sweep.points for name, sweep in self.file.sweeps.items()}
        optional = {"weights": weights, "withheld": withheld, "sweeps": sweeps}
        given = {key: value for key, value in optional.items() if value}
        return file | {"runs": runs, "titles": titles} | given

    def parameters_hash(self, stage: str) -> str:
        return hash_of(self, stage)
