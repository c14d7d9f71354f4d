"""Compare the methods of a study over its seeds, from the scores and curves of all its runs.

Writes `runs.csv` (one row a run and metric), `summary.csv` (mean and sample standard deviation over
seeds), `paired.csv` (difference to the baseline, seed by seed), `claims.csv` (the tests that the
study file asks for, with their verdicts), `curves.csv` (training curves over seeds) and
`confusion.csv` (where the pixels of each class went, over seeds). Scores and shares are in percent.
A class that the split does not contain has no rows.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pipelines.base.artifacts import Stopwatch, read_json, staged, write_receipt
from pipelines.base.frames import read_csv
from pipelines.compare.comparison import Comparison
from pipelines.running.finished import all_finished
from pipelines.study import Study


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
    runs, read = all_finished(study), inputs(study)
    published = _published_curves(study)
    comparison = Comparison.of(study, runs, curves=published is None)
    if published is not None:
        comparison = replace(comparison, curves=read_csv(published))
        read = [*(path for path in read if path.is_file()), published]
    with staged(study.folder("compare")) as scratch:
        comparison.write(scratch)
        write_receipt(
            scratch,
            stage="compare",
            subject=study.name,
            parameters=study.parameters_hash("compare"),
            inputs=read,
        )
        watch.write(scratch)


def _published_curves(study: Study) -> Path | None:
    """The table of the runs' curves as published, where they were restored without their own.

    An early publication did without the curves of single runs. Its receipt tells that the table was
    made of the same ones; else there is none, and the missing curves are an error.
    """
    published = study.published / "compare"
    table, receipt = published / "curves.csv", published / "receipt.json"
    curves = [run.output("train", "curves.csv") for run in study.runs]
    if all(path.is_file() for path in curves) or not (table.is_file() and receipt.is_file()):
        return None
    known = read_json(receipt)["inputs"]
    for path in curves:
        trained = read_json(path.parent / "receipt.json")["outputs"]
        if known.get(path.as_posix()) != trained["curves.csv"]:
            return None
    return table
