"""What is tested when it is no run of a study: a checkpoint on a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.study import Dataset
from pipelines.study.evaluation import Evaluation
from pipelines.study.parameters import hash_of

if TYPE_CHECKING:
    from sar.trained.bundle import Bundle


@dataclass(frozen=True)
class CheckpointTest:
    """What the evaluation asks of a `Run`, for a checkpoint that no study trained."""

    checkpoint: Path
    dataset: Dataset
    evaluation: Evaluation
    threads: int
    results: Path
    bundle: Bundle

    @property
    def name(self) -> str:
        return f"{self.checkpoint.name} on {self.dataset.name}"

    @property
    def keeps_predictions(self) -> bool:
        return True

    def folder(self, stage: str) -> Path:
        """Where `stage` (evaluate) writes."""
        return self.results

    def parameters(self, stage: str, *, defaults: bool = True) -> dict[str, Any]:
        """All that determines the results besides the checkpoint's weights and the data."""
        code = {"code": self.bundle.code} if self.bundle.code else {}
        return code | {
            "model": self.bundle.model,
            "image_steps": self.bundle.image_steps,
            "evaluation": self.evaluation.model_dump(exclude_defaults=not defaults),
            "threads": self.threads,
        }

    def parameters_hash(self, stage: str) -> str:
        return hash_of(self, stage)
