"""The tables of the stage compare: scores, differences, claims, curves, confusions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.base import metric_names
from pipelines.base.artifacts import canonical_json
from pipelines.base.frames import KEYS, read_confusion, read_csv, write_csv
from pipelines.compare.claims import assess
from pipelines.compare.statistics import paired_differences, summarise
from pipelines.study import SUMMARY, Run, Study, made

_POINTS = [*KEYS, "seed", "iteration", "metric", "value"]
CURVE_POINTS = 200
"""Of a run's curve of one metric, spread evenly; the run's own table has all."""


@dataclass(frozen=True)
class Comparison:
    """The tables of a study, each under its file's stem; their rows are in study order."""

    runs: pd.DataFrame
    """KEYS, seed, metric, value."""
    summary: pd.DataFrame
    """KEYS, metric, n, mean, std."""
    paired: pd.DataFrame
    """KEYS, metric, n, mean_difference, std_difference, wins, low, high, p."""
    claims: pd.DataFrame
    """One row a test, as `claims.assess` returns it."""
    curves: pd.DataFrame
    """KEYS, iteration, metric, n, mean, std."""
    confusion: pd.DataFrame
    """KEYS, truth, prediction, n, mean, std: of the true pixels of a class, in percent."""

    @classmethod
    def of(cls, study: Study, runs: Sequence[Run], *, curves: bool = True) -> Comparison:
        """Compare these finished runs of `study`; only seeds that two methods share are paired.

        Without `curves` that table is empty: not every published run kept them.
        """
        ordered = sorted(runs, key=lambda run: _position(study, run))
        scores = pd.concat([_scores(run) for run in ordered], ignore_index=True)
        points = [_curves(run) for run in ordered] if curves else [pd.DataFrame(columns=_POINTS)]
        points = pd.concat(points, ignore_index=True)
        shares = pd.concat([_shares(run) for run in ordered], ignore_index=True)
        return cls(
            runs=scores,
            summary=summarise(scores, [*KEYS, "metric"]),
            paired=paired_differences(scores, study.file.baseline),
            claims=assess(study, scores, missing=len(study.runs) - len(runs)),
            curves=summarise(points, [*KEYS, "iteration", "metric"]),
            confusion=summarise(shares, [*KEYS, "truth", "prediction"]),
        )

    @classmethod
    def read(cls, study: Study) -> Comparison:
        """What the stage compare wrote.

        Raises:
            PipelineError: when it has not run.
        """
        return cls(**{field.name: _read(study, field.name) for field in fields(cls)})

    def write(self, folder: Path) -> None:
        """Write the files; equal tables give equal bytes."""
        for field in fields(self):
            write_csv(getattr(self, field.name), folder / f"{field.name}.csv")
        means: dict[str, Any] = {}
        for row in self.summary[self.summary["metric"] == "mIoU"].itertuples():
            models = means.setdefault(row.dataset, {})
            models.setdefault(row.model, {})[row.method] = round(row.mean, 2)
        (folder / SUMMARY).write_text(canonical_json(means), encoding="utf-8")


def flat_scores(metrics: Mapping[str, Any]) -> dict[str, float]:
    """What metrics.json holds, as {metric: percent}; what the split cannot measure is left out."""
    per_class = {metric_names.of_class(name): value for name, value in metrics["IoU"].items()}
    present = {name: value for name, value in per_class.items() if value is not None}
    return metric_names.headline(metrics) | present


def _position(study: Study, run: Run) -> tuple[int, ...]:
    file = study.file
    return (
        file.datasets.index(run.dataset.name),
        file.models.index(run.model),
        list(file.methods).index(run.method),
        file.seeds.index(run.seed),
    )


def _keys(run: Run) -> dict[str, str]:
    return {"dataset": run.dataset.name, "model": run.model, "method": run.method}


def _scores(run: Run) -> pd.DataFrame:
    metrics = made.metrics(run)
    # metrics.json sorts its keys; classes belong in the order of the data card.
    classes = [metric_names.of_class(name) for name in run.dataset.card.classes]
    scores = flat_scores(metrics)
    subsets = [metric_names.of_subset(name) for name in run.evaluation.subsets]
    ordered = (*metric_names.names(), *subsets, *classes)
    names = [name for name in ordered if name in scores]
    values = [scores[name] for name in names]
    return pd.DataFrame({**_keys(run), "seed": run.seed, "metric": names, "value": values})


def _curves(run: Run) -> pd.DataFrame:
    path = run.output("train", "curves.csv")
    table = read_csv(path, (), needs=("iteration",), remedy=run.again("train"))
    points = table.melt("iteration", var_name="metric").dropna(subset="value")
    points = _thinned(points.sort_values("iteration", kind="stable"))
    return points.assign(**_keys(run), seed=run.seed)


def _thinned(points: pd.DataFrame) -> pd.DataFrame:
    """The first of each of CURVE_POINTS equal stretches of every metric, and its last point."""
    metrics = points.groupby("metric")
    place, count = metrics.cumcount(), metrics["value"].transform("size")
    stretch = place * CURVE_POINTS // count
    begins = stretch != (place - 1) * CURVE_POINTS // count
    return points[begins | (place == count - 1)]


def _shares(run: Run) -> pd.DataFrame:
    path, classes = run.output("evaluate", "confusion.csv"), run.dataset.card.classes
    counts = read_confusion(path, classes, run.again("evaluate"))
    names = pd.Index(classes, name="truth")
    pixels = pd.DataFrame(counts, index=names, columns=names.rename("prediction"))
    pixels = pixels[pixels.sum(axis="columns") > 0]
    shares = 100 * pixels.div(pixels.sum(axis="columns"), axis="index")
    shares = shares.T.stack().rename("value").reset_index()[["truth", "prediction", "value"]]
    return shares.assign(**_keys(run), seed=run.seed)


def _read(study: Study, stem: str) -> pd.DataFrame:
    return read_csv(study.output("compare", f"{stem}.csv"), remedy=study.again("compare"))
