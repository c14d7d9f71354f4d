"""One run of a study."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.schema import Evaluation, Method, ModelEntry, Strict, Training
from pipelines.study.data import Dataset, Weights
from pipelines.study.parameters import hash_of
from pipelines.study.places import ENTRY_OF_TRAINING, RUN_STAGES, SEEN_IN_TRAINING

if TYPE_CHECKING:
    from pipelines.study.study import Study


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

    def work(self, key: str) -> Path:
        """Scratch that survives a kill, under `key`: the hash of parameters and data."""
        return self.study.work / "runs" / self.name / key[:16]
