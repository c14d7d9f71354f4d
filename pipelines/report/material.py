"""What a report is made of, for all of its sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.analyse.analyses import Analyses
from pipelines.compare.comparison import Comparison
from pipelines.report.gallery import Gallery, Panel
from pipelines.study import Run, Study

PAIRED = "difference to the baseline, paired by seed"

KINDS = {
    "fixed-budget": (
        "Fixed-budget comparison",
        "all methods are compared after the same number of iterations, converged or not. It shows "
        "how far they get on an equal budget and ",
    ),
    "plateau": (
        "Trained to the plateau",
        "training went on until more of it should change little; the training curves, and the "
        "controls where the study has them, show whether that is so.",
    ),
    "tuning": (
        "Tuning on val",
        "these runs choose hyper-parameters. Their scores favour whatever was chosen and are no "
        "result.",
    ),
    "sensitivity": (
        "Sensitivity to a setting",
        "these runs describe how scores depend on a setting. Nothing is chosen by them and nothing "
        "is claimed.",
    ),
}
"""What each kind of study is called, and what that means."""


@dataclass(frozen=True)
class Material:
    """All that a report is made of."""

    study: Study
    runs: Sequence[Run]
    """Those that are finished."""
    comparison: Comparison
    analyses: Analyses
    data: Mapping[str, Mapping[str, Any]]
    """For each data set the contents of its info.json."""
    gallery: Gallery
    shown: Mapping[Panel, Sequence[Run]]
    """For each data set and model, the compared methods' runs of the seed that is looked at."""


def incomplete(study: Study, runs: Sequence[Run]) -> str:
    """A sentence where runs are missing, else nothing."""
    if len(runs) == len(study.runs):
        return ""
    return f"Incomplete: {len(runs)} of {len(study.runs)} runs."


def labels(study: Study, *, control: bool | None = None) -> dict[str, str]:
    """Labels by method: the baseline, the compared methods, the controls.

    Args:
        control: only the controls, or only the others.
    """
    methods = study.file.methods
    order = sorted(methods, key=lambda name: (name != study.file.baseline, methods[name].control))
    chosen = [name for name in order if control in (None, methods[name].control)]
    return {name: methods[name].label for name in chosen}
