"""What scores are called, from metrics.json to the comparison table: the one list of them.

A metric that is counted into metrics.json and has an entry in `METRICS` is in scores.json, in the
tables of compare and on the tracker's pages, has a column in the report and may be claimed. The
scores of single classes, `IoU/<class>`, and of subsets, `mIoU/<subset>`, are named by the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pipelines.base.class_groups import GROUPS


class Metric(NamedTuple):
    """A score of a whole split."""

    name: str
    """In scores.json, the tables of compare and claims."""
    heading: str
    """Of its column in the comparison table."""
    place: tuple[str, ...]
    """The keys that lead to it in metrics.json."""
    always_shown: bool = False
    """Whether its column is there even where no run has a value. One that not all evaluations
    measure, or that came later than results which are published, has a column where it was
    measured."""
    evaluation_key: str | None = None
    """The key of a study's `evaluation` that has to be set for it to be measured."""


MULTI_SCALE = "mIoU/multi-scale"
"""The mIoU of predictions averaged over scales, where a study asks for it."""

METRICS: tuple[Metric, ...] = (
    *(Metric(name, name, (name,), always_shown=True) for name in ("mIoU", "mAcc", "aAcc")),
    *(
        Metric(f"mIoU/{group}", group, ("groups", group, "mIoU"), always_shown=True)
        for group in GROUPS
    ),
    Metric(MULTI_SCALE, "multi-scale", ("multi-scale", "mIoU"), evaluation_key="multi_scale"),
)
"""In the order of tables."""

_OF_CLASS = "IoU/"


def names() -> list[str]:
    return [metric.name for metric in METRICS]


def find(name: str) -> Metric | None:
    """The metric of that name; None for the score of a class or a subset."""
    return next((metric for metric in METRICS if metric.name == name), None)


def of_class(name: str) -> str:
    """What the IoU of a class is called."""
    return f"{_OF_CLASS}{name}"


def class_of(metric: str) -> str | None:
    """The class whose IoU this is; None for any other score."""
    return metric.removeprefix(_OF_CLASS) if metric.startswith(_OF_CLASS) else None


def of_subset(name: str) -> str:
    """What the mIoU of a subset of the split is called."""
    return f"mIoU/{name}"


def pattern() -> str:
    """A regular expression for what a claim may be about: a metric, or the IoU of a class."""
    return f"^({'|'.join(names())}|{_OF_CLASS}.+)$"


def headline(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Those of `METRICS` and of the subsets that metrics.json has a value of, by name."""
    values = {metric.name: _at(metrics, metric.place) for metric in METRICS}
    subsets = metrics.get("subsets", {})
    values |= {of_subset(name): scores["mIoU"] for name, scores in subsets.items()}
    return {name: value for name, value in values.items() if value is not None}


def _at(node: Any, place: tuple[str, ...]) -> Any:
    """What is at the end of these keys; None where one is missing."""
    for key in place:
        if key not in node:
            return None
        node = node[key]
    return node
