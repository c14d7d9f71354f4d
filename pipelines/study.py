"""From a study file to its runs, their parameters, and the place of every file.

Nobody else expands a study or builds a path from parts. All paths are relative to the project
root, which is the working directory of every command.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipelines.artifacts import sha256_json
from pipelines.cards import (
    ArchivePart,
    DataCard,
    DigitsSource,
    FilesSource,
    FirstOf,
    FolderPart,
    WeightsPart,
)
from pipelines.errors import PipelineError
from pipelines.schema import (
    Claim,
    Evaluation,
    Method,
    ModelEntry,
    Override,
    Pretrained,
    Strict,
    StudyFile,
    Training,
)

PARAMS = Path("params")
DATA = Path("data")
RESULTS = Path("results")
WORK = Path("work")
REPORTS = Path("reports")
REFERENCE = PARAMS / "reference.yaml"
"""Published results of others; a project may do without."""
DOWNLOADS = DATA / "downloads"
CHECKSUMS = PARAMS / "datasets" / "checksums.json"
"""What downloads were, whose publishers name no checksum; written by fetch."""

DESCRIPTION = {"title", "licence", "citation", "homepage", "digests"}
"""Keys of a data card that do not determine the data."""

WEIGHTS_DECIDED_BY = {"sha256", "prefix"}
"""Keys of a model entry's `pretrained` that determine the weights; the others say where they are
had."""

WEIGHTS_SHOWN = {"file", "sha256"}
"""Keys of it that a report shows."""

ENTRY_OF_TRAINING = {"pretrained", "precision", "accumulate", "compile"}
"""Keys of a model entry that training alone asks: evaluation only sees what came of them."""

DATASET_STAGES = {
    "fetch": (DATA / "raw", ("files/",)),
    "prepare": (DATA / "prepared", ("images/", "labels/", "info.json")),
}
"""Where each stage of a data set writes, and what, besides receipt.json and runtime.json.

A name that ends in a slash is a folder.
"""

MODEL_STAGES = {"weights": (DATA / "weights", ("backbone.safetensors",))}
"""Where the stage of a model with published weights writes and what, as above."""

RUN_STAGES = {
    "train": (
        *("weights.safetensors", "plugin.safetensors", "diagnostics.safetensors"),
        *("curves.csv", "config.py"),
    ),
    "evaluate": (
        *("metrics.json", "scores.json", "confusion.csv"),
        *("predictions.npz", "analysis.npz"),
    ),
}
"""What each stage of a run writes, besides receipt.json and runtime.json."""

STUDY_STAGES = {
    "compare": (
        *("runs.csv", "summary.csv", "paired.csv", "claims.csv"),
        *("curves.csv", "confusion.csv"),
    ),
    "analyse": (
        *("measures.csv", "summary.csv", "paired.csv", "classes.csv", "long_tail.csv"),
        *("drift.csv", "drift_compared.csv", "anchors.csv", "left_out.csv"),
    ),
    "report": (
        *("report.md", "index.html", "tables/", "figures/", "runtime/", "gallery.npz"),
        *("table.md", "table.csv", "table.tex", "per_class.csv", "claims.csv"),
    ),
}
"""What each stage of a whole study writes, besides receipt.json and runtime.json.

A name that ends in a slash is a folder.
"""

VIEWS = ("index.html",)
"""Outputs of report that show run-time facts (time, memory, commits): published, but no receipt
vouches for them, since they differ between replays."""

SEEN_IN_TRAINING = {"mode", "crop_size", "stride", "base_size"}
"""Keys of `evaluation` that the looks at the val split during training depend on."""

_Model = TypeVar("_Model", bound=Strict)


def params_file(kind: str, name: str) -> Path:
    """The file of a study, data set or model; `kind` is the folder: studies, datasets, models."""
    return PARAMS / kind / f"{name}.yaml"


def params_names(kind: str) -> list[str]:
    """What there is in a folder of parameter files: studies, datasets or models."""
    return [path.stem for path in sorted((PARAMS / kind).glob("*.yaml")) if path.stem != "dvc"]


def published_names() -> list[str]:
    """The studies that have something published."""
    return sorted(path.parent.name for path in REPORTS.glob("*/study.yaml"))


def read_params(path: Path, model: type[_Model], variant: str | None = None) -> _Model:
    """The file at `path` as `model`, with the keys of its `variant` merged in.

    Raises:
        PipelineError: naming the file, each offending key and what was expected.
    """
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml") if p.stem != "dvc"))
        raise PipelineError(f"{path}: no such file; {path.parent} has: {known or 'none'}")
    try:
        content = YAML(typ="safe", pure=True).load(path)
    except YAMLError as error:
        raise PipelineError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    read = _validated(path, model, content)
    if variant is None:
        return read
    if variant not in read.variants:
        known = ", ".join(read.variants) or "none"
        raise PipelineError(f"{path}: variants: unknown {variant!r}; it has: {known}")
    return _validated(f"{path}@{variant}", model, _merge(content, content["variants"][variant]))


def _validated(where: Path | str, model: type[_Model], content: Any) -> _Model:
    """`content` as `model`; a PipelineError tells all mistakes, each beginning with `where`."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = []
        for item in error.errors(include_url=False):
            key = ".".join(str(part) for part in item["loc"]) or "(top level)"
            got = "" if isinstance(item["input"], dict) else f" (got {item['input']!r})"
            message = item["msg"].removeprefix("Value error, ")
            lines.append(f"{where}: {key}: {message}{got}")
        raise PipelineError("\n".join(lines)) from None


@dataclass(frozen=True)
class Dataset:
    """A data card and the folders of its data."""

    name: str
    card: DataCard
    home: Path | None = None
    """Where a published study keeps what prepare said of its data; without it, `data/`."""

    @classmethod
    def load(cls, name: str) -> Dataset:
        """Read `params/datasets/<name>.yaml`.

        Raises:
            PipelineError: for a missing file or a mistake in it.
        """
        return cls(name, read_params(params_file("datasets", name), DataCard))

    def folder(self, stage: str) -> Path:
        """Where `stage` (fetch or prepare) of this data set writes."""
        return (DATASET_STAGES[stage][0] if self.home is None else self.home) / self.name

    @property
    def raw(self) -> Path:
        """The folder of the raw files, below that of fetch."""
        return self.folder("fetch") / "files"

    @property
    def downloads(self) -> Path:
        """Where fetch keeps what it downloads, and a person may put a file by hand."""
        return DOWNLOADS / self.name

    @property
    def prepared(self) -> Path:
        """The folder that prepare writes: `images/<split>/`, `labels/<split>/`, `info.json`."""
        return self.folder("prepare")

    @property
    def info(self) -> Path:
        return self.prepared / "info.json"

    @property
    def fetched(self) -> Path:
        return self.folder("fetch") / "receipt.json"

    @property
    def receipt(self) -> Path:
        return self.prepared / "receipt.json"

    @property
    def card_file(self) -> Path:
        return params_file("datasets", self.name)

    def outputs(self, stage: str) -> list[str]:
        """All that `stage` writes; a folder ends in a slash."""
        return _outputs(self.folder(stage), DATASET_STAGES[stage][1])

    def input_receipts(self, stage: str) -> list[Path]:
        """The receipts that `stage` depends on."""
        return [self.fetched] if stage == "prepare" else []

    def local_sources(self, stage: str) -> list[Path]:
        """The folders and archives on this machine that `stage` reads, as the card names them."""
        source = self.card.source
        if stage != "fetch" or not isinstance(source, FilesSource):
            return []
        local = (FolderPart, ArchivePart)
        return [Path(part.path) for part in source.parts.values() if isinstance(part, local)]

    def local_files(self, stage: str) -> list[Path]:
        """The same, with all that is in the folders, for a driver that knows files by their times.

        A source that is gone counts only where something was fetched: then that stays as it is.
        """
        sources = [
            path for path in self.local_sources(stage) if path.exists() or self.fetched.exists()
        ]
        return [each for path in sources for each in (path, *sorted(path.rglob("*")))]

    def parameters(self, stage: str, *, defaults: bool = True) -> dict[str, Any]:
        """All of the card that determines what fetch or prepare writes.

        That is what the files must be, not where they are had: a dead address can be mended without
        a new training. `defaults=False` leaves out what has its default value.
        """
        source = self.card.source
        if stage == "fetch":
            kind = {"kind": source.kind}
            return kind if isinstance(source, DigitsSource) else kind | _parts(source, defaults)
        return self.card.model_dump(
            exclude={"source": {"parts"}} | dict.fromkeys(DESCRIPTION, True),
            exclude_defaults=not defaults,
        )

    def parameters_hash(self, stage: str) -> str:
        return _hash(self, stage)


@dataclass(frozen=True)
class Weights:
    """The published weights of a model's backbone and the folders of their files."""

    model: str
    pretrained: Pretrained

    name: ClassVar[str] = "weights"
    """The folder of the files among the downloads and in the mirror: models may share a file."""

    @classmethod
    def load(cls, model: str) -> Weights:
        """Read `params/models/<model>.yaml`.

        Raises:
            PipelineError: for a missing file or a mistake in it, or when it names no weights.
        """
        path = params_file("models", model)
        pretrained = read_params(path, ModelEntry).pretrained
        if pretrained is None:
            raise PipelineError(f"{path}: pretrained: not given, so there is nothing to fetch")
        return cls(model, pretrained)

    @property
    def entry_file(self) -> Path:
        return params_file("models", self.model)

    @property
    def part(self) -> WeightsPart:
        """The file, as a part of a data set is described."""
        return WeightsPart(kind="url", **self.pretrained.model_dump(exclude={"prefix", "licence"}))

    @property
    def downloads(self) -> Path:
        """Where fetch keeps the file, and a person may put it by hand."""
        return DOWNLOADS / self.name

    @property
    def folder(self) -> Path:
        return MODEL_STAGES["weights"][0] / self.model

    @property
    def backbone(self) -> Path:
        """The weights by the backbone's own names."""
        return self.folder / "backbone.safetensors"

    @property
    def receipt(self) -> Path:
        return self.folder / "receipt.json"

    @property
    def outputs(self) -> list[str]:
        """All that fetch writes."""
        return _outputs(self.folder, MODEL_STAGES["weights"][1])

    def parameters(self, stage: str, *, defaults: bool = True) -> dict[str, Any]:
        """What the weights must be, not where they are had."""
        return _decisive(self.pretrained, defaults)

    def parameters_hash(self, stage: str = "weights") -> str:
        return _hash(self, stage)


@dataclass(frozen=True)
class Run:
    """One training: a data set, a model, a method and a seed of a study."""

    study: Study = field(repr=False, compare=False)
    dataset: Dataset
    model: str
    method: str
    seed: int

    @property
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
        return self.study._run_folder(self.name, stage)

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
        if stage == "train" and self.weights is not None:
            parameters["model"]["pretrained"] = self.weights.parameters(
                "weights", defaults=defaults
            )
        if stage == "evaluate":
            return parameters | {"evaluation": values(self.evaluation)}
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
        return _hash(self, stage)

    def work(self, key: str) -> Path:
        """Scratch that survives a kill, under `key`: the hash of parameters and data."""
        return self.study.work / "runs" / self.name / key[:16]


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
            name: Dataset(name, _named(path, "datasets", name, DataCard)) for name in file.datasets
        }
        models = {name: _named(path, "models", name, ModelEntry) for name in file.models}
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
                wanted = {"evaluation.split": self.evaluation_of(dataset.name, model).split}
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
            merged = _merge(value.model_dump(), overrides)
            value = _validated(f"{self.path}: {key}", type(base), merged)
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
            return _outputs(parent / "{model}", files)
        if stage in DATASET_STAGES:
            parent, files = DATASET_STAGES[stage]
            return _outputs(parent / "{dataset}", files)
        if stage in RUN_STAGES:
            return _outputs(self._run_folder("{run}", stage), RUN_STAGES[stage])
        return _outputs(self.folder(stage), STUDY_STAGES[stage])

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
        return file | {"runs": runs, "titles": titles} | ({"weights": weights} if weights else {})

    def parameters_hash(self, stage: str) -> str:
        return _hash(self, stage)


_ADDRESSES = {"url", "urls", "commit", "command", "install", "credentials", "account"}
"""Keys of a part of a data set that say where it is had."""


def _parts(source: FilesSource | FirstOf, defaults: bool) -> dict[str, Any]:
    """What the parts must be, by name."""
    return {
        "parts": {
            name: {"kind": part.kind} | _parts(part, defaults)
            if isinstance(part, FirstOf)
            else part.model_dump(exclude=_ADDRESSES, exclude_defaults=not defaults)
            for name, part in source.parts.items()
        }
    }


def _decisive(pretrained: Pretrained, defaults: bool) -> dict[str, Any]:
    return pretrained.model_dump(include=WEIGHTS_DECIDED_BY, exclude_defaults=not defaults)


def _outputs(folder: Path, names: tuple[str, ...]) -> list[str]:
    return [f"{folder.as_posix()}/{name}" for name in (*names, "receipt.json", "runtime.json")]


def _hash(subject: Dataset | Weights | Run | Study, stage: str) -> str:
    """What a stage's outputs are known by.

    A value counts only where it differs from its default: a setting that is added to the schema
    leaves all finished work valid. So a default, once released, never changes its meaning.
    """
    return sha256_json(subject.parameters(stage, defaults=False))


def _named(study: Path, key: str, name: str, model: type[_Model]) -> _Model:
    path = params_file(key, name)
    if not path.is_file():
        known = ", ".join(params_names(key)) or "none"
        raise PipelineError(f"{study}: {key}: unknown {name!r}; {path.parent} has: {known}")
    return read_params(path, model)


def _merge(base: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(base)
    for key, value in overrides.items():
        old = merged.get(key)
        both = isinstance(value, dict) and isinstance(old, dict)
        merged[key] = _merge(old, value) if both else value
    return merged
