"""What may stand in a study file, `params/studies/<name>.yaml`: strict models, no logic.

Parts of it stand in `recipe` and `evaluation`; model entries in `model_entry`, data cards in
`cards`. The JSON schema of all these models is committed as `params/schema/*.json`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    field_validator,
    model_validator,
)

from pipelines.study.evaluation import Evaluation
from pipelines.study.grid import Sweep, Values, expand
from pipelines.study.recipe import Training
from pipelines.study.strict import Factor, Line, Name, Processes, ScoreName, Seed, Strict


class Method(Strict):
    """One training method: a plug-in applied to the model's config, or nothing for the baseline."""

    label: Line
    """What the method is called in tables and figures; no two are equal."""
    plugin: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = None
    """`module:function`; called as `function(model_cfg, **options)`, returns a model config."""
    options: dict[str, Any] = {}
    """The plug-in's own arguments."""
    training: dict[str, Any] = {}
    """Overrides of the study's `training`, for controls and tuning; a comparison shares it."""
    grid: Annotated[dict[str, Values], Field(min_length=1)] | None = None
    """Values of options that are swept, such as `pull_weight: [0.01, 0.1, 1]`, or of the recipe, as
    `training.optimizer.lr: [0.001, 0.01]`. The method then stands for one at each point, called
    `METHOD-KEY-VALUE` (`sar-pull_weight-1e-2`); of kinds tuning and sensitivity alone."""
    seeds: Annotated[list[Seed], Field(min_length=1)] | None = None
    """A subset of the study's seeds, for controls that need fewer runs."""
    control: bool = False
    """A control answers a question about the comparison and is not one of the compared methods."""

    @model_validator(mode="after")
    def _options_need_a_plugin(self) -> Method:
        if self.options and self.plugin is None:
            raise ValueError("options are given without a plugin; expected plugin: module:function")
        return self


class Override(Strict):
    """Other values for some of a study's runs."""

    datasets: Annotated[list[Name], Field(min_length=1)] | None = None
    """Only runs on these; without it, on all."""
    models: Annotated[list[Name], Field(min_length=1)] | None = None
    """Only runs of these; without it, of all."""
    training: dict[str, Any] = {}
    """Merged into `training`, all methods alike; what a method overrides itself still wins."""
    evaluation: dict[str, Any] = {}
    """Merged into `evaluation`; not `split` and `gallery`, which are one for the whole study."""

    def matches(self, dataset: str, model: str) -> bool:
        return dataset in (self.datasets or [dataset]) and model in (self.models or [model])


class Claim(Strict):
    """What a study expects of one method, written before its runs and judged by their pairs.

    It is one test for each data set and model of the study, or for those that it names.
    """

    metric: ScoreName
    """A score of the whole split, of a group of classes, of one class, of several scales, or of a
    subset of the split that `evaluation.subsets` names."""
    method: Name
    """The method of which something is expected."""
    against: Name | None = None
    """The method that it is compared with; without it, the baseline."""
    direction: Literal["higher", "lower", "within"]
    """Of the difference, `method` minus `against`: higher or lower by more than the margin; or
    within the margin on either side, so that the two are as good as equal."""
    margin: Annotated[float, Field(ge=0, lt=100)]
    """Points that the mean difference is tested against; above 0 for `within`."""
    assumed_sd: Annotated[float, Field(gt=0, le=100)] | None = None
    """Standard deviation of the paired difference in points, as of a pilot; without it, `check`
    takes a measured one where there is any. It plans the pairs and judges nothing."""
    assumed_difference: Annotated[float, Field(ge=-100, le=100)] | None = None
    """The true difference in points that the pairs are planned for, `method` minus `against`;
    without it 0 for `within`, and no number of pairs for the others."""
    dataset: Name | None = None
    """Only on this one; without it, a test on each."""
    model: Name | None = None
    """Only with this one; without it, a test with each."""

    @model_validator(mode="after")
    def _a_margin_has_two_sides(self) -> Claim:
        if self.direction == "within" and not self.margin:
            raise ValueError("direction within goes with a margin above 0")
        return self


class StudyFile(Strict):
    """`params/studies/<name>.yaml`: one question."""

    title: Line
    """Heading of the report."""
    description: str
    """What is asked, and what the answer will not say; shown in the report."""
    kind: Literal["fixed-budget", "plateau", "tuning", "sensitivity"]
    """A fixed budget compares methods after equal work and claims nothing about convergence. Tuning
    chooses settings on the val split. Sensitivity describes how scores depend on a setting, on
    either split: nothing is chosen by it and nothing claimed."""
    datasets: Annotated[list[Name], Field(min_length=1)]
    """Names of data cards, `params/datasets/NAME.yaml`."""
    models: Annotated[list[Name], Field(min_length=1)]
    """Names of model entries, `params/models/NAME.yaml`."""
    methods: Annotated[dict[Name, Method], Field(min_length=1)]
    """What is compared, by name, in the order of tables and figures."""
    baseline: Name
    """The method that the others are compared with."""
    seeds: Annotated[list[Seed], Field(min_length=1)]
    """One run for each, of each data set, model and method; runs of one seed are a pair."""
    threads: Processes
    """CPU threads a run computes with. Part of the experiment: sums depend on it."""
    processes: Processes = 1
    """Processes a run is trained and evaluated with, each with `threads` and, where there are some,
    a GPU of its own. They share every batch equally. Part of the experiment, like `threads`."""
    gpus: bool = False
    """Refuse to run without GPUs, and have drivers ask for one a process. Otherwise GPUs are used
    where there are some."""
    runs_per_gpu: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = 1
    """Runs that share a GPU at once, for models too small to fill one. `auto`: as many as fit, by
    the memory that a finished training of the same data set and model took; until there is one, a
    run has a GPU alone. No part of the experiment."""
    workers: Annotated[int, Field(ge=0, le=1024)] | Literal["auto"] = "auto"
    """Processes that load training images for a run, or none: the run does it itself. `auto`: none
    on a CPU; on a GPU the cores that a run has to itself, less one, eight at most. No part of the
    experiment: batches and augmentation are the same, so results do not depend on it."""
    image_cache: Annotated[int, Field(ge=0, le=2**20)] = 1024
    """MiB of memory in which each process that trains keeps decoded images, shared with its
    workers; 0 for none. None are kept where not all fit, or they would take more than half of the
    free memory. No part of the experiment."""
    image_scale: Factor = 1.0
    """Factor on height and width of all images before anything else is done to them, and so on each
    `base_size`, but on no `crop_size`. Predictions are brought back: scores are always those of the
    labels at their own size."""
    from_scratch: bool = False
    """Start every model from random weights, whatever its entry says of `pretrained`."""
    training: Training
    """The recipe of all runs."""
    evaluation: Evaluation = Evaluation()
    """How all runs are tested."""
    overrides: dict[Name, Override] = {}
    """Recipes of some data sets or models, merged in this order: a later one wins over an earlier
    one. They have names so that a variant can change one of them or add the last word."""
    claims: dict[Name, Claim] = {}
    """What the study tests, and all that it tests; about compared methods, not about controls."""
    variants: dict[Name, dict[str, Any]] = {}
    """The same study with other values, such as for a larger machine: `STUDY@VARIANT` merges these
    keys into the file. Its results are kept apart."""

    _sweeps: dict[str, Sweep] = PrivateAttr(default_factory=dict)

    @property
    def sweeps(self) -> dict[str, Sweep]:
        """What became of methods with a `grid`, by their names in the file."""
        return self._sweeps

    def sweep_of(self, method: str) -> Sweep | None:
        """The sweep that a method is a point of, where it is one."""
        return next((each for each in self._sweeps.values() if method in each.points), None)

    @model_validator(mode="wrap")
    @classmethod
    def _grids_become_methods(
        cls, value: Any, handler: ModelWrapValidatorHandler[StudyFile]
    ) -> StudyFile:
        if not isinstance(value, dict) or not isinstance(value.get("methods"), dict):
            return handler(value)
        methods, sweeps = expand(value["methods"])
        file = handler(value | {"methods": methods})
        if sweeps and file.kind not in ("tuning", "sensitivity"):
            raise ValueError(
                f"methods.{next(iter(sweeps))}.grid: a study of kind {file.kind} reports scores of "
                f"the split {file.evaluation.split}, by which no setting may be chosen; expected "
                "kind tuning with evaluation.split val, or kind sensitivity, which only describes"
            )
        file._sweeps = sweeps
        return file

    @field_validator("variants")
    @classmethod
    def _variants_have_none(cls, variants: dict) -> dict:
        for name, keys in variants.items():
            if "variants" in keys:
                raise ValueError(f"variants.{name} holds variants; expected keys of the study")
        return variants

    @field_validator("datasets", "models", "seeds")
    @classmethod
    def _no_duplicates(cls, values: list) -> list:
        twice = sorted({v for v in values if values.count(v) > 1})
        if twice:
            raise ValueError(f"{twice[0]!r} stands here twice; expected each once")
        return values

    @model_validator(mode="after")
    def _names_agree(self) -> StudyFile:
        if self.baseline not in self.methods:
            raise ValueError(
                f"baseline {self.baseline!r} is not one of methods: {', '.join(self.methods)}"
            )
        if self.methods[self.baseline].control:
            raise ValueError(f"baseline {self.baseline!r} is a control; expected a compared method")
        labels = [method.label for method in self.methods.values()]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"methods: label {label!r} stands here twice; expected each once")
        if self.kind == "tuning" and self.evaluation.split != "val":
            raise ValueError("kind tuning goes with evaluation.split val, not test")
        for name, method in self.methods.items():
            extra = sorted(set(method.seeds or []) - set(self.seeds))
            if extra:
                raise ValueError(f"methods.{name}.seeds holds {extra[0]}, which seeds does not")
        return self

    @model_validator(mode="after")
    def _overrides_agree(self) -> StudyFile:
        for name, override in self.overrides.items():
            for part in ("datasets", "models"):
                known = getattr(self, part)
                for value in getattr(override, part) or []:
                    if value not in known:
                        raise ValueError(
                            f"overrides.{name}.{part}: unknown {value!r}, so no run matches; "
                            f"{part} has: {', '.join(known)}"
                        )
            if not override.training and not override.evaluation:
                raise ValueError(
                    f"overrides.{name} changes nothing; expected training, evaluation or both"
                )
            for key in ("split", "gallery"):
                if key in override.evaluation:
                    raise ValueError(
                        f"overrides.{name}.evaluation.{key}: there is one {key} for the whole "
                        "study; expected other keys of evaluation"
                    )
        return self

    @model_validator(mode="after")
    def _claims_agree(self) -> StudyFile:
        if self.kind in ("tuning", "sensitivity") and self.claims:
            what = "chooses" if self.kind == "tuning" else "describes"
            raise ValueError(
                f"claims: a study of kind {self.kind} {what} settings and has none; put them into "
                "the study that uses these settings"
            )
        compared = [name for name, method in self.methods.items() if not method.control]
        for name, claim in self.claims.items():
            self._check_claim(f"claims.{name}", claim, compared)
        return self

    def _check_claim(self, key: str, claim: Claim, compared: list[str]) -> None:
        against = self.baseline if claim.against is None else claim.against
        for part, method in (("method", claim.method), ("against", against)):
            if method not in self.methods:
                raise ValueError(
                    f"{key}.{part}: unknown {method!r}; methods has: {', '.join(self.methods)}"
                )
            if method not in compared:
                raise ValueError(
                    f"{key}.{part}: {method!r} is a control, which takes no part in the "
                    f"comparison; expected one of {', '.join(compared)}"
                )
        if claim.method == against:
            raise ValueError(f"{key}: {against!r} is compared with itself; expected two methods")
        for part, known in (("dataset", self.datasets), ("model", self.models)):
            value = getattr(claim, part)
            if value is not None and value not in known:
                raise ValueError(
                    f"{key}.{part}: unknown {value!r}; {part}s has: {', '.join(known)}"
                )
        if not self.paired_seeds(claim.method, against):
            raise ValueError(f"{key}: {claim.method!r} and {against!r} have no seed in common")

    def paired_seeds(self, *methods: str) -> list[int]:
        """The seeds that all these methods have."""
        own = [self.methods[name].seeds for name in methods]
        return [seed for seed in self.seeds if all(s is None or seed in s for s in own)]
