"""What may stand in a study file, `params/studies/<name>.yaml`: strict models, no logic.

Parts of it stand in `recipe` and `evaluation`; model entries in `model_entry`, data cards in
`cards`. The JSON schema of all these models is committed as `params/schema/*.json`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pipelines.study.evaluation import Evaluation
from pipelines.study.recipe import Training
from pipelines.study.strict import MetricName, Name, Seed, Strict


class Method(Strict):
    """One training method: a plug-in applied to the model's config, or nothing for the baseline."""

    label: str
    """What the method is called in tables and figures; no two are equal."""
    plugin: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = None
    """`module:function`; called as `function(model_cfg, **options)`, returns a model config."""
    options: dict[str, Any] = {}
    """The plug-in's own arguments."""
    training: dict[str, Any] = {}
    """Overrides of the study's `training`, for controls and tuning; a comparison shares it."""
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

    metric: MetricName
    """A score of the whole split, of a group of classes, of one class, or of several scales."""
    method: Name
    """The method of which something is expected."""
    against: Name | None = None
    """The method that it is compared with; without it, the baseline."""
    direction: Literal["higher", "lower", "within"]
    """Of the difference, `method` minus `against`: higher or lower by more than the margin; or
    within the margin on either side, so that the two are as good as equal."""
    margin: Annotated[float, Field(ge=0, lt=100)]
    """Points that the mean difference is tested against; above 0 for `within`."""
    assumed_sd: Annotated[float, Field(gt=0)] | None = None
    """Standard deviation of the paired difference in points, as of a pilot; without it, `check`
    takes a measured one where there is any. It plans the pairs and judges nothing."""
    assumed_difference: float | None = None
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

    title: str
    """Heading of the report."""
    description: str
    """What is asked, and what the answer will not say; shown in the report."""
    kind: Literal["fixed-budget", "plateau", "tuning"]
    """A fixed budget compares methods after equal work and claims nothing about convergence."""
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
    threads: Annotated[int, Field(gt=0)]
    """CPU threads a run computes with. Part of the experiment: sums depend on it."""
    processes: Annotated[int, Field(gt=0)] = 1
    """Processes a run is trained and evaluated with, each with `threads` and, where there are some,
    a GPU of its own. They share every batch equally. Part of the experiment, like `threads`."""
    gpus: bool = False
    """Refuse to run without GPUs, and have drivers ask for one a process. Otherwise GPUs are used
    where there are some."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that load training images for a run, or none: the run does it itself. No part of
    the experiment: batches and augmentation are the same, so results do not depend on it."""
    image_scale: Annotated[float, Field(gt=0)] = 1.0
    """Factor on height and width of all images before anything else is done to them. Predictions
    are brought back: scores are always those of the labels at their own size."""
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
        if self.kind == "tuning" and self.claims:
            raise ValueError(
                "claims: a study of kind tuning chooses settings and has none; put them into the "
                "study that uses these settings"
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
