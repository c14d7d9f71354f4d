"""Compare the methods of a study over its seeds, from the scores and curves of all its runs.

Writes `runs.csv` (one row a run and metric), `summary.csv` (mean and sample standard deviation over
seeds), `paired.csv` (difference to the baseline, seed by seed), `claims.csv` (the tests that the
study file asks for, with their verdicts), `curves.csv` (training curves over seeds) and
`confusion.csv` (where the pixels of each class went, over seeds). Scores and shares are in percent.
A class that the split does not contain has no rows.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.artifacts import Stopwatch, read_json, staged, write_receipt
from pipelines.claims import assess
from pipelines.cli import guarded, stage_parser
from pipelines.errors import PipelineError
from pipelines.metrics import GROUPS, MULTI_SCALE, headline
from pipelines.statistics import KEYS, paired_differences, summarise
from pipelines.study import Run, Study

SCORES = ("mIoU", "mAcc", "aAcc", *(f"mIoU/{group}" for group in GROUPS), MULTI_SCALE)
"""The metrics of a run besides `IoU/<class>`."""

_TEXT = [
    *(*KEYS, "metric", "truth", "prediction"),
    *("claim", "against", "direction", "verdict", "reason"),
    *("class", "group", "measure", "part"),
]

_POINTS = [*KEYS, "seed", "iteration", "metric", "value"]


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
            claims=assess(study, scores),
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


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    path.write_text(csv_text(frame), encoding="utf-8", newline="\n")


def csv_text(frame: pd.DataFrame) -> str:
    """Ten significant digits: all that a score means, and none of a machine's last bits."""
    return frame.to_csv(index=False, float_format="%.10g", lineterminator="\n")


def flat_scores(metrics: Mapping[str, Any]) -> dict[str, float]:
    """What metrics.json holds, as {metric: percent}; what the split cannot measure is left out."""
    per_class = {f"IoU/{name}": value for name, value in metrics["IoU"].items()}
    present = {name: value for name, value in per_class.items() if value is not None}
    return headline(metrics) | present


def finished(run: Run) -> bool:
    """Whether `run` is trained and evaluated with the parameters that it has now."""
    for stage in ("train", "evaluate"):
        receipt = run.output(stage, "receipt.json")
        if not receipt.is_file():
            return False
        if read_json(receipt)["parameters"] != run.parameters_hash(stage):
            return False
    return True


def all_finished(study: Study) -> list[Run]:
    """All runs of the study.

    Raises:
        PipelineError: naming every run that is not finished, and how to finish them.
    """
    missing = [run.name for run in study.runs if not finished(run)]
    if not missing:
        return study.runs
    by_hand = " && ".join(
        f"python -m pipelines.{stage} --study {study.argument} --run {missing[0]}"
        for stage in ("train", "evaluate")
    )
    raise PipelineError(
        f"study {study.name!r}: {len(missing)} of {len(study.runs)} runs are missing, or were made "
        "with other parameters:\n  " + "\n  ".join(missing) + "\n"
        f"make them all:     snakemake --cores all --config study={study.argument}\n"
        f"or one by one:     {by_hand}\n"
        f"or do without now: python -m pipelines.report --study {study.argument} --partial"
    )


def inputs(study: Study) -> list[Path]:
    """The files that compare reads."""
    return [
        path
        for run in study.runs
        for path in (
            run.output("evaluate", "metrics.json"),
            run.output("evaluate", "confusion.csv"),
            run.output("train", "curves.csv"),
        )
    ]


def compare(study: Study) -> None:
    """Write the tables of `study`.

    Raises:
        PipelineError: when a run is not finished.
    """
    watch = Stopwatch()
    comparison = Comparison.of(study, all_finished(study))
    with staged(study.folder("compare")) as scratch:
        comparison.write(scratch)
        write_receipt(
            scratch,
            stage="compare",
            subject=study.name,
            parameters=study.parameters_hash("compare"),
            inputs=inputs(study),
        )
        watch.write(scratch)


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
    path = run.output("evaluate", "metrics.json")
    metrics = read_json(path)
    # metrics.json sorts its keys; classes belong in the order of the data card.
    classes = [f"IoU/{name}" for name in run.dataset.card.classes]
    scores = flat_scores(metrics)
    subsets = [f"mIoU/{name}" for name in run.evaluation.subsets]
    names = [name for name in (*SCORES, *subsets, *classes) if name in scores]
    values = [scores[name] for name in names]
    return pd.DataFrame({**_keys(run), "seed": run.seed, "metric": names, "value": values})


def _curves(run: Run) -> pd.DataFrame:
    path = run.output("train", "curves.csv")
    if not path.is_file():
        raise PipelineError(f"{path}: not found; run python -m pipelines.train --run {run.name}")
    points = pd.read_csv(path).melt("iteration", var_name="metric").dropna(subset="value")
    points = points.sort_values("iteration", kind="stable")
    return points.assign(**_keys(run), seed=run.seed)


def _shares(run: Run) -> pd.DataFrame:
    path = run.output("evaluate", "confusion.csv")
    if not path.is_file():
        raise PipelineError(f"{path}: not found; run python -m pipelines.evaluate --run {run.name}")
    pixels = pd.read_csv(path, dtype={"truth": str}, keep_default_na=False).set_index("truth")
    pixels = pixels[pixels.sum(axis="columns") > 0]
    shares = 100 * pixels.div(pixels.sum(axis="columns"), axis="index")
    shares = shares.reset_index().melt("truth", var_name="prediction")
    return shares.assign(**_keys(run), seed=run.seed)


def _read(study: Study, stem: str) -> pd.DataFrame:
    path = study.output("compare", f"{stem}.csv")
    if not path.is_file():
        raise PipelineError(
            f"{path}: not found; run python -m pipelines.compare --study {study.argument}"
        )
    return read_csv(path)


def read_csv(path: Path) -> pd.DataFrame:
    """What `write_csv` wrote: text where a column holds names, numbers elsewhere."""
    # Names are text even where they read like a number or a missing value ("9", "null").
    numbers = pd.read_csv(path, nrows=0).columns.difference(_TEXT)
    return pd.read_csv(
        path,
        dtype=dict.fromkeys(_TEXT, str),
        keep_default_na=False,
        na_values={name: [""] for name in numbers},
        float_precision="round_trip",
    )


def main(argv: list[str] | None = None) -> int:
    args = stage_parser(__doc__).parse_args(argv)

    def command() -> None:
        study = Study.load(args.study)
        compare(study)
        print(f"compared {len(study.runs)} runs in {study.folder('compare')}")

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
